"""Every middleware that `langchain` brings along, and the hooks that a user writes."""

from __future__ import annotations

import tempfile
from pathlib import Path

from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    ClearToolUsesEdit,
    ContextEditingMiddleware,
    FilesystemFileSearchMiddleware,
    HostExecutionPolicy,
    HumanInTheLoopMiddleware,
    LLMToolEmulator,
    LLMToolSelectorMiddleware,
    ModelCallLimitMiddleware,
    ModelFallbackMiddleware,
    ModelRetryMiddleware,
    PIIMiddleware,
    ProviderToolSearchMiddleware,
    ShellToolMiddleware,
    SummarizationMiddleware,
    TodoListMiddleware,
    ToolCallLimitMiddleware,
    ToolErrorMiddleware,
    ToolRetryMiddleware,
    after_model,
    before_agent,
    before_model,
    dynamic_prompt,
    wrap_model_call,
    wrap_tool_call,
)
from langchain_anthropic.middleware import AnthropicPromptCachingMiddleware
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from tests.side_by_side.kit import ADD, ADD_TWICE, ASK, THREAD, add, ask, fail
from tests.side_by_side.scenario import scenario, scenario_by_failure, settled
from tests.side_by_side.script import BROKEN, call
from tests.side_by_side.ways import BLOCKING, STREAMED

LANGCHAIN = "langchain"
LONG = {"messages": [HumanMessage("word " * 300), AIMessage("yes " * 300)] * 3 + [HumanMessage("And now?")]}


@scenario(LANGCHAIN, ["A summary.", "Fine."], ways=BLOCKING)
def summarization_by_messages(make, run):
    model = make()
    middleware = SummarizationMiddleware(model=model, trigger=("messages", 4), keep=("messages", 2))
    return [run(create_agent(model, [], middleware=[middleware]), LONG), "A summary." in make.heard]


@scenario(LANGCHAIN, ["A summary.", "Fine."])
def summarization_by_the_models_window(make):
    model = make(profile={"max_input_tokens": 1500})
    middleware = SummarizationMiddleware(model=model, trigger=("fraction", 0.8), keep=("messages", 2))
    return create_agent(model, [], middleware=[middleware]).invoke(LONG)


@scenario(LANGCHAIN, ["A summary.", "Fine."])
def summarization_by_tokens_counted_by_the_model(make):
    model = make()
    middleware = SummarizationMiddleware(
        model=model,
        trigger=("tokens", 500),
        keep=("messages", 1),
        token_counter=lambda messages: sum(model.get_num_tokens(str(m.text)) for m in messages),
    )
    return create_agent(model, [], middleware=[middleware]).invoke(LONG)


DECISIONS = {
    "approve": {"type": "approve"},
    "edit": {"type": "edit", "edited_action": {"name": "add", "args": {"a": 10, "b": 20}}},
    "reject": {"type": "reject", "message": "Do not add."},
    "respond": {"type": "respond", "message": "It is 3, I counted."},
}


@scenario(LANGCHAIN, [ADD, "So be it."], ways=DECISIONS)
def human_in_the_loop(make, decision):
    asked = HumanInTheLoopMiddleware({"add": True})
    agent = create_agent(make(), [add], middleware=[asked], checkpointer=InMemorySaver())
    waiting = agent.invoke(ASK, THREAD)["__interrupt__"][0].value
    return [waiting, agent.invoke(Command(resume={"decisions": [decision]}), THREAD)]


@scenario(
    LANGCHAIN,
    [
        call("write_todos", todos=[{"content": "add", "status": "in_progress"}]),
        ADD,
        call("write_todos", todos=[{"content": "add", "status": "completed"}]),
        "Done: 3.",
    ],
    ways=STREAMED,
)
def todo_list(make, run):
    return run(create_agent(make(), [add], middleware=[TodoListMiddleware()]), ASK)


@scenario(LANGCHAIN, [ADD, ADD, ADD], ways=BLOCKING)
def model_call_limit_ends_the_run(make, run):
    limit = ModelCallLimitMiddleware(run_limit=2, exit_behavior="end")
    return run(create_agent(make(), [add], middleware=[limit]), ASK)


@scenario(LANGCHAIN, [ADD, ADD, ADD], raises="ModelCallLimitExceededError")
def model_call_limit_raises(make):
    limit = ModelCallLimitMiddleware(run_limit=2, exit_behavior="error")
    return create_agent(make(), [add], middleware=[limit]).invoke(ASK)


@scenario(LANGCHAIN, [ADD_TWICE, "One was enough."], ways=BLOCKING)
def tool_call_limit(make, run):
    limit = ToolCallLimitMiddleware(tool_name="add", run_limit=1, exit_behavior="continue")
    return run(create_agent(make(), [add], middleware=[limit]), ASK)


@scenario_by_failure(LANGCHAIN, ["never asked"])
def model_fallback_after(make):
    behind = FakeListChatModel(responses=["The other model."])
    return create_agent(make(), [], middleware=[ModelFallbackMiddleware(behind)]).invoke(ASK)


@scenario_by_failure(LANGCHAIN, ["The second try."])
def model_retry_after(make):
    retry = ModelRetryMiddleware(max_retries=2, initial_delay=0, on_failure="continue")
    agent = create_agent(make(), [], middleware=[retry])
    return settled(lambda: agent.invoke(ASK))


@scenario(LANGCHAIN, [BROKEN, ADD, "It is 3."], ways=BLOCKING)
def model_fallback_to_the_same_class(make, run):
    return run(create_agent(make(), [add], middleware=[ModelFallbackMiddleware(make())]), ASK)


@scenario(LANGCHAIN, [BROKEN, BROKEN], raises="engine")
def model_retry_gives_up(make):
    retry = ModelRetryMiddleware(max_retries=1, initial_delay=0, on_failure="error")
    return create_agent(make(), [], middleware=[retry]).invoke(ASK)


@scenario(LANGCHAIN, ["Write to anna@example.org."], ways=BLOCKING)
def personal_data_is_redacted(make, run):
    redact = PIIMiddleware("email", strategy="redact", apply_to_input=True, apply_to_output=True)
    answer = run(create_agent(make(), [], middleware=[redact]), ask("I am ben@example.org."))
    return [answer, "ben@example.org" in make.heard]


@scenario(LANGCHAIN, [], raises="PIIDetectionError")
def personal_data_blocks_the_run(make):
    block = PIIMiddleware("email", strategy="block")
    return create_agent(make(), [], middleware=[block]).invoke(ask("I am ben@example.org."))


@scenario(LANGCHAIN, [call("fail", reason="rain"), "It failed twice."])
def tool_retry(make):
    retry = ToolRetryMiddleware(max_retries=1, initial_delay=0, on_failure="continue")
    return create_agent(make(), [fail], middleware=[retry]).invoke(ASK)


@scenario(LANGCHAIN, [call("fail", reason="rain"), "It failed."], ways=BLOCKING)
def tool_error_is_told_to_the_model(make, run):
    told = ToolErrorMiddleware(lambda error, request: f"{request.tool_call['name']}: {error}")
    return run(create_agent(make(), [fail], middleware=[told]), ASK)


@scenario(LANGCHAIN, ['{"tools": ["add"]}', ADD, "It is 3.", '{"tools": ["add"]}'], ways=BLOCKING)
def tool_selector(make, run):
    selector = LLMToolSelectorMiddleware(max_tools=1)
    made = create_agent(make(), [add, fail], middleware=[selector])
    return settled(lambda: run(made, ASK))


@scenario(LANGCHAIN, [ADD, "Emulated: 3.", "It is 3."], ways=BLOCKING)
def tool_emulator(make, run):
    model = make()
    return run(create_agent(model, [add], middleware=[LLMToolEmulator(model=model)]), ASK)


@scenario(LANGCHAIN, [ADD, ADD, ADD, "It is 3."], ways={"approximate": "approximate", "model": "model"})
def context_editing(make, method):
    edit = ClearToolUsesEdit(trigger=10, keep=1, clear_at_least=0)
    middleware = ContextEditingMiddleware(edits=[edit], token_count_method=method)
    messages = create_agent(make(), [add], middleware=[middleware]).invoke(ASK)["messages"]
    return [messages, "[cleared]" in make.heard]


@scenario(LANGCHAIN, [call("shell", command="echo hello"), "It says hello."])
def shell_tool(make):
    with tempfile.TemporaryDirectory() as folder:
        shell = ShellToolMiddleware(workspace_root=folder, execution_policy=HostExecutionPolicy())
        return create_agent(make(), [], middleware=[shell]).invoke(ASK)


@scenario(LANGCHAIN, [call("glob_search", pattern="*.txt"), call("grep_search", pattern="rain"), "Found."])
def file_search(make):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "note.txt").write_text("rain in Oslo", encoding="utf-8")
        search = FilesystemFileSearchMiddleware(root_path=folder, use_ripgrep=False)
        return create_agent(make(), [], middleware=[search]).invoke(ASK)


@scenario(LANGCHAIN, [ADD, "It is 3."])
def tool_search_of_a_provider_that_defers_nothing(make):
    search = ProviderToolSearchMiddleware()
    return create_agent(make(), [add], middleware=[search]).invoke(ASK)


@scenario(LANGCHAIN, ["Fine."])
def prompt_caching_of_another_vendor_is_left_out(make):
    caching = AnthropicPromptCachingMiddleware(unsupported_model_behavior="ignore")
    return create_agent(make(), [add], system_prompt="You add.", middleware=[caching]).invoke(ASK)


@scenario(LANGCHAIN, [ADD, "It is 3."], ways=STREAMED)
def prompt_is_made_for_each_call(make, run):
    @dynamic_prompt
    def counting(request):
        return f"There are {len(request.messages)} messages."

    answer = run(create_agent(make(), [add], middleware=[counting]), ASK)
    return [answer, "There are 3 messages." in make.heard]


@scenario(LANGCHAIN, [ADD, "It is 3."], ways=BLOCKING)
def model_and_settings_are_changed_by_a_wrapper(make, run):
    other = make(temperature=0.5)

    class Wrapper(AgentMiddleware):
        def wrap_model_call(self, request, handler):
            return handler(request.override(model=other, tools=[add], model_settings={"stop": ["never"]}))

        async def awrap_model_call(self, request, handler):
            return await handler(request.override(model=other, tools=[add], model_settings={"stop": ["never"]}))

    return run(create_agent(make(), [add, fail], middleware=[Wrapper()]), ASK)


@scenario(LANGCHAIN, [ADD, "It is 3."])
def tool_choice_is_forced_by_a_wrapper(make):
    @wrap_model_call
    def forced(request, handler):
        is_first = not any(isinstance(message, ToolMessage) for message in request.messages)
        return handler(request.override(tool_choice="any" if is_first else None))

    return create_agent(make(), [add], middleware=[forced]).invoke(ASK)


@scenario(LANGCHAIN, [BROKEN, "never asked"])
def error_becomes_an_answer_by_a_wrapper(make):
    @wrap_model_call
    def polite(request, handler):
        try:
            return handler(request)
        except Exception as error:  # noqa: BLE001 - as users write it
            return AIMessage(f"Sorry: {isinstance(error, ValueError)}")

    return create_agent(make(), [], middleware=[polite]).invoke(ASK)


@scenario(LANGCHAIN, [ADD, "It is 3."])
def tool_is_wrapped(make):
    @wrap_tool_call
    def doubled(request, handler):
        result = handler(request)
        return result.model_copy(update={"content": f"{result.text} and {result.text}"})

    return create_agent(make(), [add], middleware=[doubled]).invoke(ASK)


@scenario(LANGCHAIN, ["I will not say.", "Well: 3."])
def answer_is_sent_back_by_a_hook(make):
    @before_agent
    def greet(state, runtime):
        return {"messages": [HumanMessage("Be kind.")]}

    @after_model(can_jump_to=["model"])
    def insist(state, runtime):
        if "not" in state["messages"][-1].text:
            return {"messages": [HumanMessage("Do say.")], "jump_to": "model"}
        return None

    return create_agent(make(), [], middleware=[greet, insist]).invoke(ASK)


@scenario(LANGCHAIN, [])
def run_is_ended_before_the_model(make):
    @before_model(can_jump_to=["end"])
    def closed(state, runtime):
        return {"messages": [AIMessage("We are closed.")], "jump_to": "end"}

    return create_agent(make(), [], middleware=[closed]).invoke(ASK)
