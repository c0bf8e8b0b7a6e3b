"""A `Progress` that remembers."""


class Watcher:
    def __init__(self):
        self.names, self.said = [], []
        self.total, self.done, self.finished = None, 0, False

    def start(self, name, total, done):
        self.names.append(name)
        self.total, self.done = total, done

    def advance(self, amount):
        self.done += amount

    def say(self, message):
        self.said.append(message)

    def finish(self):
        self.finished = True
