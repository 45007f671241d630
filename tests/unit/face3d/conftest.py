import pytest

from regaze.capture import HeadConfig, build_head
from regaze.face3d.model import from_head


@pytest.fixture(scope="module")
def head():
    return build_head(HeadConfig.tiny())


@pytest.fixture(scope="module")
def model(head):
    return from_head(head)
