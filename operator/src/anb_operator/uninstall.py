"""Before an uninstall: the operator is stopped, then its finalizers are taken off, so that no deletion hangs."""

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
TRIES = 5

LOOKS = 6
"""A tool that applies the chart as ordinary objects may apply the marker some seconds after what runs this."""

PATIENCE_SECONDS = 60.0
"""For the operator's pods, which are given 30 s to stop. The hook has time for more than one try."""

_log = structlog.get_logger(__name__)


async def uninstall(kube: KubeClient, settings: UninstallSettings) -> None:
    """Stop the operator and free its VideoJobs; they stay. It takes some minutes at most.

    Nothing is done where this is no uninstall: where hooks are applied like everything else, and the marker with them.

    Raises:
        Unavailable: Kubernetes does not answer.
        KubeRefused: the ServiceAccount may not do this, a pod does not stop, or finalizers are put back all the time.
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
    await _stopped(kube, settings.selector)
    for _ in range(TRIES):
        held = await _held(kube)
        if not held:
            return
        for videojob in held:
            await _free(kube, videojob)
        _log.info("took our finalizer off VideoJobs", tried=len(held))
    if held := await _held(kube):
        raise KubeRefused(
            "held",
            f"{len(held)} VideoJobs still have the finalizer {FINALIZER}, {'/'.join(held[0].key)} among them: "
            "somebody changes them all the time. See to that, and uninstall again.",
        )


async def _applied(kube: KubeClient, marker: str) -> bool:
    for look in range(LOOKS):
        if look:
            await asyncio.sleep(PAUSE_SECONDS)
        if await kube.has_config_map(marker):
            return True
    return False


async def _stopped(kube: KubeClient, selector: str) -> None:
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
        # The definition of VideoJobs is gone, and they with it.
        return []


async def _free(kube: KubeClient, videojob: VideoJob) -> None:
    try:
        await kube.set_finalizers(videojob, finalizers_of(videojob, wanted=False))
    except (Missing, Outdated) as error:
        # The next look shows whether anything is left to do.
        _log.info("changed meanwhile", videojob="/".join(videojob.key), reason=error.message)
