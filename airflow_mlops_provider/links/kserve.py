"""Button of a task that leads to the endpoint it deployed.

Decides the XCom key (public). What becomes a link at all is :mod:`.mlflow`'s rule. I/O only through XCom.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow.sdk import BaseOperatorLink

from airflow_mlops_provider.links.mlflow import web_address

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context
    from airflow.sdk.types import TaskInstanceKey

ENDPOINT_LINK_KEY: Final = "kserve_endpoint_url"


class KServeEndpointLink(BaseOperatorLink):
    """Lead to the address at which the service answers; no button where KServe states none."""

    name = "KServe endpoint"

    @property
    def xcom_key(self) -> str:
        return ENDPOINT_LINK_KEY

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        from airflow.sdk.execution_time.xcom import XCom

        return web_address(XCom.get_value(ti_key=ti_key, key=self.xcom_key))


def push_endpoint_link(context: Context, url: str | None) -> None:
    """Push the address as soon as it is known."""
    if web_address(url):
        context["ti"].xcom_push(key=ENDPOINT_LINK_KEY, value=url)
