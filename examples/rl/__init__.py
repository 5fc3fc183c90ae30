"""Reinforcement learning over processes: the actors coordinate, the storage carries the bulk.

::

                 one supervisor, whose children are all that is below

                      curriculum                  weights
                         ^                           ^
             report_step, finish,       publish_checkpoint, get_latest_checkpoint
             get_lesson, report_result               |
                         |                           |
                   learner (JAX)         rollout workers (NumPy), as many as the learner needs
                    |   ^                          ^   |
        checkpoints |   +---------- rollouts ------|---+
                    v                              |
                  storage: any fsspec path  -------+ weights

The files, from the inside out:

- `config`: every number, in one frozen dataclass.
- `storage`, `arrays`: files that appear whole or not at all, and what stands in them.
- `model`: the network, for NumPy and JAX alike. `advantages`, `learner`: PPO. `environments`.
- `checkpoint`, `rollouts`, `reports`: what lies in the storage.
- `stats`, `curriculum`, `weight_coordinator`: who is asked and told by all others.
- `train_worker`, `rollout_worker`: the two loops. They are given two objects with the methods of
  curriculum and weights. `patience`: these objects outlast a restart.
- `elastic`: how many rollout workers there should be. `crewlog`: how many there were.
- `actors`, `crew`, `job`: all of that as actors; the rollout workers, which come and go; and
  `RLJob`, the supervisor with its children, and whoever watches. Only these three know fray.
- `progress`, `display`, `plot`, `__main__`: what a person sees.

Any process may die at any time, and is started again. The learner continues from its newest
checkpoint, a rollout worker simply plays on, the curriculum reads back what was reported; whoever
waits for one of them waits on.
"""
