"""Every way to run an agent to its end; each returns the messages that there are then."""

from __future__ import annotations

import asyncio

from langchain_core.messages import HumanMessage

BOTH = "Oslo and Rome"


def asked(question=BOTH):
    return {"messages": [HumanMessage(question)]}


def by_invoke(agent, question=BOTH):
    return agent.invoke(asked(question))["messages"]


def by_ainvoke(agent, question=BOTH):
    return asyncio.run(agent.ainvoke(asked(question)))["messages"]


def by_stream(agent, question=BOTH):
    messages = []
    for mode, payload in agent.stream(asked(question), stream_mode=["messages", "values"]):
        if mode == "values":
            messages = payload["messages"]
    return messages


def by_astream(agent, question=BOTH):
    async def run():
        messages = []
        async for mode, payload in agent.astream(asked(question), stream_mode=["messages", "values"]):
            if mode == "values":
                messages = payload["messages"]
        return messages

    return asyncio.run(run())


def by_events(agent, question=BOTH):
    return agent.stream_events(asked(question), version="v3").output["messages"]


WAYS = [by_invoke, by_ainvoke, by_stream, by_astream, by_events]
