import pytest

from regaze.capture import HeadConfig, build_head


@pytest.fixture(scope="module")
def head():
    return build_head(HeadConfig.tiny())


@pytest.fixture(scope="module")
def model(head):
    return head
