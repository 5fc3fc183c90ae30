"""Tries actions around the policy; the nearer to 1 the better."""

import itertools
import random
import time
from typing import Any

from marin.rl import storage

INFERENCE_S = 0.005


class RolloutWorker:
    def __init__(self, config: Any, worker_id: int) -> None:
        self.config = config
        self.worker_id = worker_id
        self.policy = 0.0
        self._random = random.Random(worker_id)
        self._numbers = itertools.count()

    def load_checkpoint(self, path: str) -> None:
        self.policy = storage.read(path, "policy")["policy"]
        storage.write(path, f"loaded-by-{self.worker_id}", {"policy": self.policy})

    def generate_rollout(self, lesson: dict[str, Any]) -> tuple[list[dict[str, Any]], float]:
        time.sleep(INFERENCE_S)
        actions = [self.policy + self._random.uniform(-1, 1) for _ in range(8)]
        rollouts = [
            {"lesson": lesson["name"], "action": a, "reward": 1 - abs(1 - a)} for a in actions
        ]
        return rollouts, max(r["reward"] for r in rollouts)

    def write_rollouts(self, rollouts: list[dict[str, Any]], path: str) -> None:
        number = next(self._numbers)
        storage.write(path, f"{number:06d}-{self.worker_id}.json", rollouts)
