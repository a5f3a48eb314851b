"""Classes for which the frameworks' own schemas are a trial: one that contains itself, and a generic one."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel

Item = TypeVar("Item")


class Folder(BaseModel):
    name: str
    folders: list[Folder] = []


class Box(BaseModel, Generic[Item]):
    item: Item
