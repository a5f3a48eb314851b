"""All rules in one class."""

from __future__ import annotations

from tests.llama_index_contract.accounting import AccountingRules
from tests.llama_index_contract.agents import AgentRules
from tests.llama_index_contract.failures import FailureRules
from tests.llama_index_contract.history import HistoryRules
from tests.llama_index_contract.lost import LostCallRules
from tests.llama_index_contract.running import RunningRules
from tests.llama_index_contract.streams import StreamRules
from tests.llama_index_contract.structured import StructuredRules
from tests.llama_index_contract.tools import ToolRules


class LLMContract(
    StreamRules,
    ToolRules,
    HistoryRules,
    StructuredRules,
    AccountingRules,
    FailureRules,
    LostCallRules,
    RunningRules,
    AgentRules,
):
    """Every rule of the suite; see `Subject` for what a subclass has to define, and may."""
