from tests.finetune.conftest import case_folder, one_thread

__all__ = ["case_folder", "one_thread"]
