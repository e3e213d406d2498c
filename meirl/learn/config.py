"""Hyperparameters that PPO and A3C share; what is their own stands in their files."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ..config import Model, NonNegative, Positive, Probability
from ..envs import Env
from ..envs.scenario import FIRST_RESERVED_SEED

Units = Annotated[int, Field(ge=1, le=1_024)]
LogStd = Annotated[float, Field(ge=-20, le=20)]
MOST_WORKERS = 1_000  # a worker's scenario seed is MOST_WORKERS * seed + worker
MOST_SEED = FIRST_RESERVED_SEED // MOST_WORKERS - 1


def check_seed(seed: int) -> None:
    """Refuse a training seed whose scenarios would be those of another purpose, by a ValueError."""
    if not 0 <= seed <= MOST_SEED:
        raise ValueError(f"seed must be from 0 to {MOST_SEED}, got {seed}")


class NetworkConfig(Model):
    """Shape of the networks and of the policy."""

    hidden: tuple[Units, ...] = Field((64, 64), max_length=8, description="units of each hidden layer of a network")
    activation: Literal["tanh", "relu", "silu"] = Field("tanh", description="after each hidden layer")
    initialisation: Literal["glorot", "orthogonal"] = Field("orthogonal", description="of weights; biases start at 0")
    policy_gain: Positive = Field(0.01, description="orthogonal gain of the actor's last layer; small starts even")
    squash: Literal["clip", "tanh"] = Field("clip", description="how a Gaussian draw becomes an action in [-1, 1]")
    log_std: LogStd = Field(0.0, description="log standard deviation of the Gaussian at the start")
    final_log_std: LogStd | None = Field(None, description="lower it linearly to this instead of learning it")
    normalise_returns: bool = Field(True, description="let the critic predict in units of the returns' mean and std")
    # Defects of the published PPO, for the chapter on threats; both leave a correct policy when off.
    defect_no_jacobian: bool = Field(False, description="density of the squashed action under the unsquashed Gaussian")
    defect_double_tanh: bool = Field(False, description="squash the mean, then the action: extremes out of reach")


class LearnerConfig(Model):
    """Hyperparameters that PPO and A3C share."""

    steps: int = Field(
        2_560_000, ge=1, le=10**12,
        description="environment steps to train on, validation aside; the study: 2.56 M (PPO), 3.65 M (A3C)",
    )  # fmt: skip
    environments: int = Field(32, ge=1, le=100_000, description="episodes that a learner plays side by side")
    copies: int = Field(1, ge=1, description="environments on one scenario; their mean advantage is luck, subtracted")
    segment: int = Field(20, ge=1, description="periods played by every environment between two updates")
    discount: Probability = Field(0.99, description="of rewards per period")
    gae_lambda: Probability = Field(0.95, description="0: one-step advantages, 1: Monte Carlo")
    learning_rate: Positive = Field(3e-4, description="of Adam")
    anneal: bool = Field(True, description="lower learning rate and entropy weight linearly to 0")
    max_gradient_norm: Positive = Field(0.5, description="the gradient is scaled down to this norm")
    value_weight: NonNegative = Field(0.5, description="weight of the critic's squared error in the loss")
    entropy: NonNegative = Field(0.0, description="weight of the entropy bonus at the start")
    normalise_advantages: bool = Field(True, description="to mean 0 and std 1 over the samples of a gradient step")
    evaluations: int = Field(20, ge=1, description="how often the policy is scored on validation scenarios")
    validation_episodes: int = Field(100, ge=1, le=100_000, description="episodes of each scoring")
    network: NetworkConfig = Field(NetworkConfig(), description="shape of the networks and of the policy")  # type: ignore[call-arg]
    defect_terminal_horizon: bool = Field(False, description="treat the horizon as the end, though it is not in sight")

    @model_validator(mode="after")
    def _copies_divide_environments(self) -> Self:
        if self.environments % self.copies:
            raise ValueError(f"copies must divide environments, got {self.copies} and {self.environments}")
        return self

    def steps_per_round(self, env: Env) -> int:
        """Environment steps in one round of episodes, all environments together."""
        return self.environments * env.horizon

    def rounds(self, env: Env) -> int:
        """Whole rounds that fit into the budget of steps; at least one."""
        return max(1, self.steps // self.steps_per_round(env))

    def simulated_steps(self, env: Env) -> int:
        """All that a run simulates: what it trains on, and the validation scenarios as often as it plays them."""
        validations = min(self.evaluations, self.rounds(env))
        return self.rounds(env) * self.steps_per_round(env) + validations * self.validation_episodes * env.horizon

    def is_due(self, env: Env, steps: int) -> bool:
        """Whether to validate at the end of the round that brought the count to ``steps``."""
        every = self.rounds(env) / min(self.evaluations, self.rounds(env))
        done = steps // self.steps_per_round(env)
        return int(done / every) > int((done - 1) / every) or done >= self.rounds(env)

    def remaining(self, steps: int) -> float:
        """Share of training still to come after ``steps``: what learning rate and noise follow, from 1 down to 0."""
        return max(0.0, 1 - steps / self.steps)  # a round is played whole, even where fewer steps are asked for

    def annealed(self, steps: int) -> float:
        """Factor of learning rate and entropy weight after ``steps``: `remaining`, or 1 if they are not lowered."""
        return self.remaining(steps) if self.anneal else 1.0
