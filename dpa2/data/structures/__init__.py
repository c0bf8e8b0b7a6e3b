"""Structures of other people's files, frame by frame, with labels that are right or refused."""
