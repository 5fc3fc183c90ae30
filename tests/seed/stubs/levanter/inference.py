"""A model whose completions tell which copy of it made them."""

import itertools
import uuid


class Model:
    def __init__(self, path: str) -> None:
        self.path = path
        self.copy = uuid.uuid4().hex
        self._batches = itertools.count()

    def generate(self, prompts: list[str]) -> list[str]:
        batch = next(self._batches)
        return [f"{self.path}|{self.copy}|{batch}|{prompt}" for prompt in prompts]


def load_model(path: str) -> Model:
    return Model(path)
