"""Every number of the demo. Knows nothing but numbers and paths."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Lesson:
    """One way of starting and ending an episode of CartPole-v1.

    Attributes:
        name: What results are reported under.
        start_spread: The four state variables start uniformly in ± this (m, m/s, rad, rad/s);
            the environment's own value is 0.05. Beyond 0.2 a pole may start out of bounds.
        max_steps: The episode is truncated after so many steps; the environment's own is 500.
        promote_at: Mean return at which the curriculum goes on to the next lesson.
    """

    name: str
    start_spread: float
    max_steps: int
    promote_at: float


STANDARD = Lesson("standard", start_spread=0.05, max_steps=500, promote_at=float("inf"))
"""CartPole-v1 as it is published: the only lesson that decides whether the task is learnt."""

LESSONS = (
    Lesson("easy", start_spread=0.02, max_steps=200, promote_at=100.0),
    Lesson("wide", start_spread=0.15, max_steps=500, promote_at=200.0),
    STANDARD,
)


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347).

    Attributes:
        hidden: Width of each of the two hidden layers of policy and critic.
        discount: Gamma, per step.
        trace_decay: Lambda of generalised advantage estimation (arXiv:1506.02438).
        learning_rate: Adam's.
        clip: How far the probability ratio to the *behaviour* policy may move, ± this.
        epochs: Passes over each batch.
        minibatch: Frames per gradient step; must divide the batch.
        entropy_bonus: Weight of the policy's entropy (nats) in the objective.
        gradient_norm_max: Gradients are clipped to this global norm.
    """

    hidden: int = 64
    discount: float = 0.99
    trace_decay: float = 0.95
    learning_rate: float = 1e-3
    clip: float = 0.2
    epochs: int = 3
    minibatch: int = 512
    entropy_bonus: float = 0.005
    gradient_norm_max: float = 0.5


@dataclass(frozen=True, slots=True)
class RLConfig:
    """One run.

    Attributes:
        output: The fsspec path under which everything of the run lies.
        seed: Decides initial weights and environments. Which rollouts meet which weights depends
            on timing, so that two runs of one seed are alike, not equal.
        rollout_workers_min: Processes that play, at least 1; the run begins with so many.
        rollout_workers_max: At most so many do, where the cluster has the CPUs for them.
        target_return: Done when the last `window` episodes of the standard lesson have this mean.
        window: Episodes in that mean.
        envs_per_worker: Environments that one rollout worker steps together.
        rollout_steps: Steps of each environment in one rollout.
        rollouts_per_update: Rollouts that one step of the train worker learns from.
        rollouts_waiting_max: Rollout workers pause while more than this wait in the storage; at
            least `rollouts_per_update`, or nobody could go on.
        policy_lag_max: Rollouts whose policy is older than this many steps are thrown away.
        checkpoints_kept: Older ones are removed.
        poll_s: Pause between two looks at something that is not there yet.
        patience_s: How long a worker puts up with an actor that does not answer.
        lessons: In the order in which they unlock; the last one is the goal.
        ppo: The learner's numbers.
    """

    output: str
    seed: int = 0
    rollout_workers_min: int = 1
    rollout_workers_max: int = 4
    target_return: float = 475.0
    window: int = 100
    envs_per_worker: int = 16
    rollout_steps: int = 128
    rollouts_per_update: int = 4
    rollouts_waiting_max: int = 6
    policy_lag_max: int = 8
    checkpoints_kept: int = 5
    poll_s: float = 0.02
    patience_s: float = 60.0
    lessons: tuple[Lesson, ...] = LESSONS
    ppo: Hyperparameters = field(default_factory=Hyperparameters)

    def __post_init__(self) -> None:
        least, most = self.rollout_workers_min, self.rollout_workers_max
        if not 1 <= least <= most:
            raise ValueError(f"there must be 1 rollout worker at least, not {least} to {most}")
        if self.rollouts_waiting_max < self.rollouts_per_update:
            raise ValueError("rollouts_waiting_max must be at least rollouts_per_update")
        if self.batch_frames % self.ppo.minibatch:
            raise ValueError(f"minibatch must divide the batch of {self.batch_frames} frames")

    @property
    def rollout_frames(self) -> int:
        """Environment steps in one rollout."""
        return self.envs_per_worker * self.rollout_steps

    @property
    def batch_frames(self) -> int:
        """Environment steps in one update."""
        return self.rollouts_per_update * self.rollout_frames

    @property
    def rollout_storage_path(self) -> str:
        """Where rollouts wait to be learnt from."""
        return f"{self.output}/rollouts"

    @property
    def checkpoint_path(self) -> str:
        """Where checkpoints lie, one folder each."""
        return f"{self.output}/checkpoints"

    @property
    def report_path(self) -> str:
        """Where the curriculum keeps what was reported to it."""
        return f"{self.output}/reports"
