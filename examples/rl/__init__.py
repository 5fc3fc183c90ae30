"""Reinforcement learning over processes: the actors coordinate, the storage carries the bulk.

::

                    coordinator: CurriculumActor, WeightCoordinator
                         ^                               ^
        report_step,     |                               |  get_lesson, report_result,
        publish_checkpoint                               |  get_latest_checkpoint
                         |                               |
               train worker (JAX)             rollout workers (NumPy), N of them
                    |   ^                              ^   |
        checkpoints |   +---------- rollouts ----------|---+
                    v                                  |
                  storage: any fsspec path  -----------+ weights

The files, from the inside out:

- `config`: every number, in one frozen dataclass.
- `storage`, `arrays`: files that appear whole or not at all, and what stands in them.
- `model`: the network, for NumPy and JAX alike. `advantages`, `learner`: PPO. `environments`.
- `checkpoint`, `rollouts`, `reports`: what lies in the storage.
- `stats`, `curriculum`, `weight_coordinator`, `coordinator`: the two actors.
- `train_worker`, `rollout_worker`: the two loops. They know nothing of fray: they are given two
  objects with the actors' methods.
- `entry_points`, `job`: what runs in each job, and `RLJob`, which launches and watches them. Only
  these two know fray.
- `progress`, `display`, `plot`, `__main__`: what a person sees.

Any process may die at any time. The train worker continues from its newest checkpoint, a rollout
worker simply plays on, the coordinator reads back what was reported; whoever waits for one of them
waits on.
"""
