"""The cleanup before an uninstall: stops the operator, then removes the operator's finalizers.

A VideoJob with a finalizer can't be deleted after the uninstall.
"""

import asyncio
import time
from collections.abc import Sequence

import structlog

from anb_operator.client import KubeClient
from anb_operator.kube import KubeRefused, Missing, Outdated
from anb_operator.planning import finalizers_of
from anb_operator.settings import UninstallSettings
from anb_operator.videojob import FINALIZER, VideoJob

PAUSE_SECONDS = 1.0
"""Seconds between two checks of a ConfigMap or of pods."""

TRIES = 5
"""Maximum number of rounds. Each round lists the VideoJobs with the finalizer, and removes the finalizer."""

MARKER_CHECKS = 6
"""Number of checks for the marker ConfigMap. `kubectl apply` may create the marker a few seconds after the Job."""

PATIENCE_SECONDS = 60.0
"""Maximum wait for the operator's pods to stop. The pods have a grace period of 30 s."""

_log = structlog.get_logger(__name__)


async def uninstall(kube: KubeClient, settings: UninstallSettings) -> None:
    """Stop the operator, and remove the operator's finalizers from all VideoJobs. Takes a few minutes at most.

    Does nothing if the marker ConfigMap exists, because this means that nobody uninstalls the chart.
    During an uninstall, Helm creates the marker only after this Job.
    But a tool without hooks, such as `kubectl apply`, creates the Job and the marker during an install.

    Raises:
        Unavailable: the API server does not respond.
        KubeRefused: the ServiceAccount lacks a permission, a pod does not stop, or another program adds finalizers.
    """
    if await _applied(kube, settings.marker):
        _log.info(
            "nothing to do: this was applied as an ordinary object, not run by an uninstall", marker=settings.marker
        )
        return
    try:
        await kube.scale_deployment(settings.deployment, 0)
    except Missing:
        _log.info("there is no operator to stop", deployment=settings.deployment)
    await _wait_for_stop(kube, settings.selector)
    for _ in range(TRIES):
        held = await _held(kube)
        if not held:
            return
        for videojob in held:
            await _free(kube, videojob)
        _log.info("removed the finalizer from VideoJobs", tried=len(held))
    if held := await _held(kube):
        raise KubeRefused(
            "held",
            f"{len(held)} VideoJobs still have the finalizer {FINALIZER}, such as {'/'.join(held[0].key)}: another "
            "program keeps changing them. Stop that program, and uninstall again.",
        )


async def _applied(kube: KubeClient, marker: str) -> bool:
    for check in range(MARKER_CHECKS):
        if check:
            await asyncio.sleep(PAUSE_SECONDS)
        if await kube.has_config_map(marker):
            return True
    return False


async def _wait_for_stop(kube: KubeClient, selector: str) -> None:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while pods := await kube.list_pods(selector):
        if time.monotonic() >= give_up:
            raise KubeRefused(
                "running",
                f"The operator's pod {pods[0].name} has not stopped within {PATIENCE_SECONDS:.0f} s: perhaps its node "
                "is gone. Delete the pod, with --force --grace-period=0 if need be, and uninstall again.",
            )
        await asyncio.sleep(PAUSE_SECONDS)


async def _held(kube: KubeClient) -> Sequence[VideoJob]:
    try:
        return await kube.list_held(FINALIZER)
    except Missing:
        # The CRD and all VideoJobs were deleted.
        return []


async def _free(kube: KubeClient, videojob: VideoJob) -> None:
    try:
        await kube.set_finalizers(videojob, finalizers_of(videojob, wanted=False))
    except (Missing, Outdated) as error:
        # If the VideoJob still has the finalizer, the next round finds the VideoJob again.
        _log.info("changed meanwhile", videojob="/".join(videojob.key), reason=error.message)
