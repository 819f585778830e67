"""An LSTM language model with the interface of transformers.

The recurrent network of Hochreiter and Schmidhuber (1997, "Long Short-Term Memory"), as Zaremba et
al. (2014, "Recurrent Neural Network Regularization") stack it for language: with dropout between
layers, not in time. It is small, fast on a CPU, and has no context limit.

    from textgym.lm.lstm import LSTMConfig, LSTMForCausalLM

    model = LSTMForCausalLM(LSTMConfig(vocab_size=1536, hidden_size=256, num_layers=2))
    model.save_pretrained(folder)           # and tokenizer.save_pretrained(folder)

Importing :mod:`textgym.lm.loading.files` registers the type with ``AutoModelForCausalLM``. The
states are in a transformers ``Cache``, so that :class:`textgym.lm.decoding.recurrent.StateSlots`
decodes it like Mamba.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    Cache,
    DynamicCache,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast


class LSTMConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """The shape of an LSTM language model.

    Args:
        vocab_size: Number of tokens.
        hidden_size: Width of embeddings and states.
        num_layers: Number of layers.
        dropout: Dropout probability between layers, in training mode.
        tie_word_embeddings: Share one matrix between input embeddings and head.
        initializer_range: Standard deviation of new embeddings and of a new head.
        kwargs: Arguments of every transformers configuration (``bos_token_id``, ...).
    """

    model_type = "textgym_lstm"
    attribute_map = {"num_hidden_layers": "num_layers"}  # noqa: RUF012 (as transformers has it)

    def __init__(
        self,
        vocab_size: int = 1536,
        hidden_size: int = 256,
        num_layers: int = 2,
        dropout: float = 0.0,
        tie_word_embeddings: bool = False,
        initializer_range: float = 0.1,
        use_cache: bool = True,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.dropout = dropout
        self.initializer_range = initializer_range
        self.use_cache = use_cache
        self.tie_word_embeddings = tie_word_embeddings
        super().__init__(**kwargs)

    @property
    def layer_types(self) -> list[str]:
        """The kind of cache of each layer: states of fixed size."""
        return ["linear_attention"] * self.num_layers


class LSTMPreTrainedModel(PreTrainedModel):
    """The configuration and weight initialization of model and body."""

    config_class = LSTMConfig
    config: LSTMConfig
    base_model_prefix = "model"
    # A state cannot be rewound: no assisted generation.
    _is_stateful = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # type: ignore[no-untyped-call]
        if isinstance(module, nn.LSTM):
            # Remember initially: a forget gate's bias of 1 (Jozefowicz et al. 2015, "An Empirical
            # Exploration of Recurrent Network Architectures").
            bias = cast(Tensor, module.bias_ih_l0)
            start = torch.zeros_like(bias)
            start[module.hidden_size : 2 * module.hidden_size] = 1.0
            init.copy_(bias, start)


class LSTMModel(LSTMPreTrainedModel):
    """Embeddings and layers: from token ids to hidden states."""

    def __init__(self, config: LSTMConfig) -> None:
        super().__init__(config)
        size = config.hidden_size
        self.embeddings = nn.Embedding(config.vocab_size, size)
        self.layers = nn.ModuleList(
            nn.LSTM(size, size, batch_first=True) for _ in range(config.num_layers)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Module:
        """The embeddings."""
        return self.embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the embeddings."""
        self.embeddings = cast(nn.Embedding, value)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Hidden states of some tokens.

        Args:
            input_ids: ``[B, L]``, padded on the right with any ids.
            attention_mask: ``[B, L]``, 0 at padding; used only to refuse padding on the left.
            past_key_values: The states to continue from; they are updated in place.
            inputs_embeds: ``[B, L, d]``, instead of token ids.
            use_cache: Whether to return the states.
            kwargs: Ignored.

        Returns:
            ``last_hidden_state`` ``[B, L, d]``, and ``past_key_values``.

        Raises:
            ValueError: If padding precedes a token: it would change the state.
        """
        # After the prompt, generation passes masks of other shapes.
        mask = attention_mask
        flat = isinstance(mask, Tensor) and mask.dim() == 2
        if mask is not None and flat and bool((mask[:, 1:] > mask[:, :-1]).any()):
            raise ValueError(
                "an LSTM reads padding like any token; pad on the right (padding_side='right'), or "
                "generate for prompts of one length at a time"
            )
        if use_cache is None:
            use_cache = self.config.use_cache
        cache = past_key_values
        if use_cache and cache is None:
            cache = DynamicCache(config=self.config)
        hidden = self.embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        for at, layer in enumerate(self.layers):
            # Has no effect within one layer, but cuDNN differentiates only in training mode.
            layer.training = torch.is_grad_enabled()
            state = None if cache is None else cache.get_recurrent_state(at)
            # Of [B, 2, d]: the output and the cell.
            before = None if state is None else state.transpose(0, 1)[:, None].contiguous()
            hidden, after = layer(
                self.dropout(hidden), None if before is None else (before[0], before[1])
            )
            if cache is not None:
                cache.update_recurrent_state(torch.stack([part[0] for part in after], 1), at)
                # Set by updates of a convolution's state, which an LSTM does not have.
                states: Any = cache.layers[at]
                states.has_previous_state[0], states.device = True, hidden.device
        return BaseModelOutputWithPast(
            last_hidden_state=self.dropout(hidden), past_key_values=cache if use_cache else None
        )


class LSTMForCausalLM(LSTMPreTrainedModel, GenerationMixin):
    """The LSTM language model: body and head."""

    _tied_weights_keys = {"lm_head.weight": "model.embeddings.weight"}  # noqa: RUF012

    def __init__(self, config: LSTMConfig) -> None:
        super().__init__(config)
        self.model = LSTMModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        """No: generation would ask the cache for the length of the text."""
        return False

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits of some tokens; arguments as in :meth:`LSTMModel.forward`.

        Args:
            input_ids: ``[B, L]``.
            attention_mask: ``[B, L]``.
            past_key_values: The states to continue from.
            inputs_embeds: ``[B, L, d]``.
            labels: ``[B, L]``, the same tokens with -100 where the loss is ignored.
            use_cache: Whether to return the states.
            logits_to_keep: Number of last positions, or the positions; 0 for all.
            kwargs: Arguments of the loss.
        """
        output = self.model(
            input_ids, attention_mask, past_key_values, inputs_embeds, use_cache=use_cache
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(output.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs
            )
        return CausalLMOutputWithPast(
            loss=loss, logits=logits, past_key_values=output.past_key_values
        )


AutoConfig.register(LSTMConfig.model_type, LSTMConfig, exist_ok=True)
AutoModel.register(LSTMConfig, LSTMModel, exist_ok=True)
AutoModelForCausalLM.register(LSTMConfig, LSTMForCausalLM, exist_ok=True)
