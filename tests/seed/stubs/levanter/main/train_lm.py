"""Fits a line by gradient descent, and prints what a test wants to know."""

import os


def main() -> None:
    slope = 0.0
    for _ in range(50):
        slope -= 0.1 * sum(2 * (slope * x - 3 * x) * x for x in (0.5, 1.0, 1.5)) / 3
    project, run = os.environ["WANDB_PROJECT"], os.environ["WANDB_RUN_NAME"]
    if run == "diverges":
        raise FloatingPointError("loss is nan")
    print(f"{project}/{run} replica {os.environ['FRAY_REPLICA_ID']}: slope={slope:.3f}")
