"""Before an uninstall: the operator is stopped, then its finalizers are taken off, so that no deletion hangs."""

import asyncio

import structlog

from anb_operator.client import KubeClient
from anb_operator.kube import Missing, Outdated
from anb_operator.settings import UninstallSettings
from anb_operator.videojob import FINALIZER, VideoJob

PAUSE_SECONDS = 1.0
TRIES = 5

_log = structlog.get_logger(__name__)


async def uninstall(kube: KubeClient, settings: UninstallSettings) -> None:
    """Stop the operator and free its VideoJobs; they stay. The caller bounds the time.

    Raises:
        Unavailable: Kubernetes does not answer.
        KubeRefused: the ServiceAccount may not do this.
    """
    try:
        await kube.scale_deployment(settings.deployment, 0)
    except Missing:
        _log.info("there is no operator to stop", deployment=settings.deployment)
    while await kube.list_pods(settings.selector):  # noqa: ASYNC110 - the pods are elsewhere
        await asyncio.sleep(PAUSE_SECONDS)
    for _ in range(TRIES):
        held = await _held(kube)
        if not held:
            return
        for videojob in held:
            await _free(kube, videojob)
        _log.info("VideoJobs are free of our finalizer", freed=len(held))


async def _held(kube: KubeClient) -> list[VideoJob]:
    try:
        listed = await kube.list_videojobs()
    except Missing:
        return []
    return [videojob for videojob in listed if FINALIZER in videojob.metadata.finalizers]


async def _free(kube: KubeClient, videojob: VideoJob) -> None:
    others = [finalizer for finalizer in videojob.metadata.finalizers if finalizer != FINALIZER]
    try:
        await kube.set_finalizers(videojob, others)
    except (Missing, Outdated) as error:
        # The next look shows whether anything is left to do.
        _log.info("changed meanwhile", videojob="/".join(videojob.key), reason=error.message)
