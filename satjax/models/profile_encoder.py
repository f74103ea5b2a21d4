"""From a capability profile to soft tokens: the connectors behind the capability encoder psi.

`TextConnector` is the paper's single layer `W` on the embedding of the whole profile text. `TaskSetConnector` reads numbers as
numbers: each task is the embedding of its keywords with the candidate's accuracy on it, and the set of tasks is pooled without order.
`AbilityTable` reads no profile: it holds what training finds of each candidate, for an ability head that measures all others.
"""

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from satjax.models.linear import Linear


class TextConnector(nnx.Module):
    """`e_c = W psi(c)` (paper section 3.2), for `soft_tokens` tokens."""

    def __init__(self, width_in: int, width_out: int, soft_tokens: int, rngs: nnx.Rngs):
        self.project = Linear(width_in, soft_tokens * width_out, bias=True, rngs=rngs)
        self.soft_tokens = soft_tokens

    def __call__(self, embedding_ME: Float[Array, "m e"]) -> Float[Array, "m k d"]:
        """One embedding per profile to its soft tokens; unit-length inputs are brought to unit variance first."""
        scaled = embedding_ME * embedding_ME.shape[-1] ** 0.5
        return rearrange(self.project(scaled), "m (k d) -> m k d", k=self.soft_tokens)


class AbilityTable(nnx.Module):
    """The abilities of the training candidates, learned as they are, in the place of soft tokens."""

    def __init__(self, num_candidates: int, size: int, rngs: nnx.Rngs):
        self.ability = nnx.Param(0.1 * jax.random.normal(rngs.params(), (num_candidates, size)))

    def __call__(self) -> Float[Array, "m 1 r"]:
        """Each candidate's ability as its one token."""
        return self.ability[...][:, None]


class TaskSetConnector(nnx.Module):
    """A permutation-invariant encoder of (task embedding, accuracy) pairs to `soft_tokens` tokens.

    Each soft token has a learned query that weighs the tasks by their embeddings, so it sums up one kind of ability; a direct path
    from the mean accuracy carries overall strength. `from_average` measures both from the average training candidate, whose token is then the
    bias: for an ability head, what all candidates have in common is no ability.
    """

    def __init__(
        self,
        width_in: int,
        width: int,
        width_out: int,
        soft_tokens: int,
        rngs: nnx.Rngs,
        *,
        from_average: bool = False,
    ):
        self.from_average = from_average
        self.task = Linear(width_in, width, bias=True, rngs=rngs)
        self.task_gain = Linear(width_in, width, bias=True, rngs=rngs)
        self.number = Linear(2, width, rngs=rngs)
        self.query = Linear(width_in, soft_tokens, rngs=rngs)
        self.project = Linear(width, width_out, bias=True, rngs=rngs)
        self.strength = Linear(1, soft_tokens * width_out, rngs=rngs)
        self.soft_tokens = soft_tokens

    def __call__(
        self, embedding_TE: Float[Array, "t e"], accuracy_MT: Float[Array, "m t"], certainty_MT: Float[Array, "m t"]
    ) -> Float[Array, "m k d"]:
        """`accuracy_MT` is standardized per task (0 where nothing was observed); `certainty_MT` in [0, 1] grows with the items observed."""
        embedding_TE = embedding_TE * embedding_TE.shape[-1] ** 0.5
        accuracy_MT = accuracy_MT * certainty_MT
        weight_TK = self.query(embedding_TE)
        weight_MTK = jax.nn.softmax(jnp.where(certainty_MT[..., None] > 0, weight_TK, -1e30), axis=1)
        hidden_MTW = self._hidden(embedding_TE, accuracy_MT, certainty_MT)
        if self.from_average:
            hidden_MTW = hidden_MTW - self._hidden(embedding_TE, jnp.zeros_like(accuracy_MT), certainty_MT)
        pooled_MKW = jnp.einsum("mtk,mtw->mkw", weight_MTK, hidden_MTW)
        total_M1 = jnp.sum(accuracy_MT, axis=1, keepdims=True) / jnp.maximum(
            jnp.sum(certainty_MT, axis=1, keepdims=True), 1e-6
        )
        return self.project(pooled_MKW) + rearrange(self.strength(total_M1), "m (k d) -> m k d", k=self.soft_tokens)

    def _hidden(self, embedding_TE: Array, accuracy_MT: Array, certainty_MT: Array) -> Array:
        numbers = self.number(jnp.stack([accuracy_MT, certainty_MT], axis=-1))
        gain = self.task_gain(embedding_TE) * accuracy_MT[..., None]
        return jax.nn.gelu(self.task(embedding_TE) + numbers) + gain
