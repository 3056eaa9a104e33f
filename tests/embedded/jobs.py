"""The Job controller and a kubelet that runs pods of Jobs as local processes."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import secrets
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from . import volumes
from .controller import Controller, deleting, pod_claims
from .faults import Faults
from .files import Files
from .kinds import ATTACHMENTS, CLAIMS, JOBS, PODS, SECRETS, VOLUMES, Object
from .store import Store, now

TRACKING = "batch.kubernetes.io/job-tracking"
# Seconds before the first retry of a failed pod; doubled each time. Kubernetes waits 10 s, tests need not.
BACKOFF_SECONDS = 0.5
MESSAGE_BYTES = 4096


@dataclass(frozen=True)
class Ended:
    """How a pod's container ended."""

    code: int
    message: str
    deleted: bool = False


class JobController(Controller):
    """Runs each Job to its end; a Job that is deleted takes its process with it."""

    def __init__(self, store: Store, files: Files, faults: Faults, directory: Path) -> None:
        super().__init__(store, files, faults)
        self._directory = directory
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self._mounted: dict[str, Callable[[], None]] = {}
        for name in ("logs", "pods"):
            (directory / name).mkdir(parents=True, exist_ok=True)

    def look(self) -> None:
        """One pass over Jobs and pods."""
        jobs = {job["metadata"]["uid"]: job for job in self.store.list(JOBS)}
        for uid, job in jobs.items():
            if not deleting(job) and not job["spec"].get("suspend") and not _ended(job):
                self.begin(f"job {uid}", self._run(job))
            elif _ended(job) and (seconds := job["spec"].get("ttlSecondsAfterFinished")) is not None:
                self.begin(f"ttl {uid}", self._expire(job, seconds))
        for mount in list(self._mounted.values()):
            mount()
        for pod in self.store.list(PODS):
            owner = (pod["metadata"].get("ownerReferences") or [{}])[0]
            if owner.get("kind") == "Job" and f"job {owner['uid']}" not in self._busy:
                # A pod that nobody runs any more: its Job has ended or is gone.
                self.drop_finalizer(PODS, pod, TRACKING)

    async def _expire(self, job: Object, seconds: float) -> None:
        finished = datetime.fromisoformat(job["status"]["conditions"][-1]["lastTransitionTime"])
        await asyncio.sleep(max(0.0, seconds - (datetime.now(UTC) - finished).total_seconds()))
        meta = job["metadata"]
        self.store.delete(JOBS, meta["namespace"], meta["name"], uid=meta["uid"])

    async def _run(self, job: Object) -> None:
        spec, failed = job["spec"], 0
        self.set_status(JOBS, job, startTime=now(), active=1)
        while True:
            pod = self._new_pod(job)
            try:
                ended = await self._run_pod(job, pod)
            finally:
                self.processes.pop(pod["metadata"]["name"], None)
                self._mounted.pop(pod["metadata"]["name"], None)
            if self.store.find(JOBS, job["metadata"]["namespace"], job["metadata"]["name"]) is None:
                return
            if ended.code == 0 and not ended.deleted:
                message = "Reached expected number of succeeded pods"
                counts = {"succeeded": 1, "failed": failed or None}
                self._finish(job, "Complete", "CompletionsReached", message, **counts)
                return
            failed += 1
            rule = next(
                (r for r in (spec.get("podFailurePolicy") or {}).get("rules", []) if _matches(r, ended)), None
            )
            if rule and rule["action"] == "FailJob":
                name = pod["metadata"]["name"]
                why = f"Container mover for pod {name} failed with exit code {ended.code}"
                self._finish(job, "Failed", "PodFailurePolicy", f"{why} matching FailJob rule", failed=failed)
                return
            if failed > spec.get("backoffLimit", 6):
                message = "Job has reached the specified backoff limit"
                self._finish(job, "Failed", "BackoffLimitExceeded", message, failed=failed)
                return
            self.set_status(JOBS, job, failed=failed)
            await asyncio.sleep(min(BACKOFF_SECONDS * 2 ** (failed - 1), 10.0))

    def _finish(self, job: Object, type: str, reason: str, message: str, **counts: int | None) -> None:
        first = {"Complete": "SuccessCriteriaMet", "Failed": "FailureTarget"}[type]
        conditions = [
            {"type": t, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now()}
            for t in (first, type)
        ]
        done = now() if type == "Complete" else None
        self.set_status(JOBS, job, active=None, completionTime=done, conditions=conditions, **counts)

    # One pod

    def _new_pod(self, job: Object) -> Object:
        meta, template = job["metadata"], job["spec"]["template"]
        inner = template.get("metadata") or {}
        labels = {**(inner.get("labels") or {}), "job-name": meta["name"]}
        for key, value in (("job-name", meta["name"]), ("controller-uid", meta["uid"])):
            labels[f"batch.kubernetes.io/{key}"] = value
        owner = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": meta["name"],
            "uid": meta["uid"],
            "controller": True,
        }
        pod = {
            "metadata": {
                "name": f"{meta['name']}-{secrets.token_hex(3)[:5]}",
                "labels": labels, "annotations": inner.get("annotations") or {},
                "ownerReferences": [owner], "finalizers": [TRACKING],
            },
            "spec": template["spec"],
        }  # fmt: skip
        return self.store.create(PODS, pod, meta["namespace"])

    async def _run_pod(self, job: Object, pod: Object) -> Ended:
        meta = pod["metadata"]
        await self._until(lambda: self._gone(job, pod) or self._can_start(pod))
        if self._gone(job, pod):
            ended = Ended(137, "deleted before it started", deleted=True)
        else:
            pod = self._place(pod)
            attachments = self._attach(pod)
            process, folder = await self._start(pod)
            self.processes[meta["name"]] = process
            try:
                self._container(pod, "Running", {"running": {"startedAt": now()}})
                if self.faults.on_mover:
                    self.faults.on_mover(pod)
                ended = await self._wait(job, pod, process)
                await self._until(lambda: pod["spec"]["nodeName"] not in self.faults.lost_nodes)
                ended = Ended(ended.code, _last_words(folder, self._log(pod), ended.code), ended.deleted)
            finally:
                await _kill(process, 0.0)
                for attachment in attachments:
                    if self.store.find(ATTACHMENTS, None, attachment):
                        self.store.delete(ATTACHMENTS, None, attachment)
        if self.store.find(PODS, meta["namespace"], meta["name"]):
            phase = "Succeeded" if ended.code == 0 else "Failed"
            reason = "Completed" if ended.code == 0 else "Error"
            terminated = {
                "exitCode": ended.code,
                "reason": reason,
                "message": ended.message,
                "finishedAt": now(),
            }
            self._container(pod, phase, {"terminated": terminated})
            self.drop_finalizer(PODS, self.store.get(PODS, meta["namespace"], meta["name"]), TRACKING)
        return ended

    def _gone(self, job: Object, pod: Object) -> bool:
        now_pod = self.store.find(PODS, pod["metadata"]["namespace"], pod["metadata"]["name"])
        if now_pod is not None and now_pod["spec"].get("nodeName") in self.faults.lost_nodes:
            return False  # its kubelet does not hear of it
        now_job = self.store.find(JOBS, job["metadata"]["namespace"], job["metadata"]["name"])
        return now_pod is None or deleting(now_pod) or now_job is None or deleting(now_job)

    def _can_start(self, pod: Object) -> bool:
        if self.faults.hold_movers or set(volumes.NODE_NAMES) <= self.faults.lost_nodes:
            return False
        claims = [self.store.find(CLAIMS, *key) for key in pod_claims(pod)]
        if not all(c and (c.get("status") or {}).get("phase") == "Bound" for c in claims):
            return False
        # The kubelet waits for Secrets too.
        return all(self.store.find(SECRETS, pod["metadata"]["namespace"], name) for name in _secrets(pod))

    def _place(self, pod: Object) -> Object:
        node = next(name for name in volumes.NODE_NAMES if name not in self.faults.lost_nodes)
        return self.update(PODS, pod, lambda current: current["spec"].update(nodeName=node))

    def _attach(self, pod: Object) -> list[str]:
        made = []
        for key in pod_claims(pod):
            volume = self.store.get(CLAIMS, *key)["spec"]["volumeName"]
            spec = {
                "attacher": volumes.DRIVER,
                "nodeName": pod["spec"]["nodeName"],
                "source": {"persistentVolumeName": volume},
            }
            name = f"csi-{secrets.token_hex(16)}"
            attachment = self.store.create(ATTACHMENTS, {"metadata": {"name": name}, "spec": spec})
            self.set_status(ATTACHMENTS, attachment, attached=True)
            made.append(name)
        return made

    async def _start(self, pod: Object) -> tuple[asyncio.subprocess.Process, Path]:
        """Start the pod's container as a process: its devices are files, its Secret a folder."""
        namespace, spec = pod["metadata"]["namespace"], pod["spec"]
        container = spec["containers"][0]
        folder = self._directory / "pods" / pod["metadata"]["uid"]
        (folder / "request").mkdir(parents=True)
        (folder / "tmp").mkdir()
        devices = {}
        claims = {
            v["name"]: v["persistentVolumeClaim"]["claimName"]
            for v in spec.get("volumes", [])
            if "persistentVolumeClaim" in v
        }
        for device in container.get("volumeDevices", []):
            claim = self.store.get(CLAIMS, namespace, claims[device["name"]])
            volume = self.store.get(VOLUMES, None, claim["spec"]["volumeName"])
            devices[device["devicePath"]] = str(self.files.volume(volume["spec"]["csi"]["volumeHandle"]))
        tokens = _write_tokens(pod, folder)
        self._mount(pod, folder / "request", devices, tokens)
        self._mounted[pod["metadata"]["name"]] = lambda: self._mount(pod, folder / "request", devices, tokens)
        command = container.get("command") or ["python", "-m", "blockvault"]  # the image's entry point
        command = [
            sys.executable if command[0] == "python" else command[0],
            *command[1:],
            *container.get("args", []),
        ]
        environment = {
            key: os.environ[key] for key in ("PATH", "HOME", "LANG", "PYTHONPATH") if key in os.environ
        }
        environment |= {e["name"]: e["value"] for e in container.get("env", []) if "value" in e}
        environment |= {
            "BLOCKVAULT_REQUEST": str(folder / "request" / "request.json"),
            "BLOCKVAULT_TERMINATION": str(folder / "termination"),
            "TMPDIR": str(folder / "tmp"),
        } | self.faults.mover_environment  # fmt: skip
        with self._log(pod).open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=log,
                stdin=asyncio.subprocess.DEVNULL,
            )
        return process, folder

    def _mount(self, pod: Object, folder: Path, devices: dict[str, str], tokens: dict[str, str]) -> None:
        """Write the files of the pod's Secrets; those that have changed take the place of the former ones whole."""
        for name in _secrets(pod):
            secret = self.store.find(SECRETS, pod["metadata"]["namespace"], name)
            for key, value in (secret or {}).get("data", {}).items():
                data = base64.b64decode(value)
                if key == "request.json":
                    request = json.loads(data)
                    if "device" in request:
                        request["device"] = devices.get(request["device"], request["device"])
                    if "tokenPath" in (request.get("changedBlocks") or {}):
                        place = request["changedBlocks"]["tokenPath"]
                        request["changedBlocks"]["tokenPath"] = tokens.get(place, place)
                    data = json.dumps(request).encode()
                path = folder / key
                if not path.exists() or path.read_bytes() != data:
                    new = folder / f"{key}.new"
                    new.write_bytes(data)
                    new.replace(path)

    async def _wait(self, job: Object, pod: Object, process: asyncio.subprocess.Process) -> Ended:
        exited = asyncio.create_task(process.wait())
        dropped = asyncio.create_task(self._until(lambda: self._gone(job, pod)))
        try:
            await asyncio.wait({exited, dropped}, return_when=asyncio.FIRST_COMPLETED)
            deleted = not exited.done()
            if deleted:
                await _kill(process, float(pod["spec"].get("terminationGracePeriodSeconds", 30)))
            code = await exited
            return Ended(code if code >= 0 else 128 - code, "", deleted)
        finally:
            dropped.cancel()
            exited.cancel()
            await asyncio.gather(dropped, exited, return_exceptions=True)

    async def _until(self, test: object) -> None:
        assert callable(test)
        with self.store.waker() as waker:
            while not test():
                waker.clear()
                # Faults are set without waking anybody. (wait_for would lose a cancellation in Python 3.11.)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await waker.wait()

    def _container(self, pod: Object, phase: str, state: Object) -> None:
        status = {"name": pod["spec"]["containers"][0]["name"], "state": state, "restartCount": 0}
        status["ready"] = "running" in state
        self.set_status(PODS, pod, phase=phase, containerStatuses=[status])

    def _log(self, pod: Object) -> Path:
        return self._directory / "logs" / f"{pod['metadata']['uid']}.log"


def _ended(job: Object) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or []
    return any(c["type"] in ("Complete", "Failed") for c in conditions)


def _secrets(pod: Object) -> list[str]:
    return [v["secret"]["secretName"] for v in pod["spec"].get("volumes") or [] if "secret" in v]


def _write_tokens(pod: Object, folder: Path) -> dict[str, str]:
    """Make the pod's projected tokens: where each is, by the path that the container would have it under."""
    spec, found = pod["spec"], {}
    mounts = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0].get("volumeMounts", [])}
    for volume in spec.get("volumes") or []:
        for source in (volume.get("projected") or {}).get("sources", []):
            token, place = source["serviceAccountToken"], folder / volume["name"]
            place.mkdir(exist_ok=True)
            (place / token["path"]).write_text(
                token_text(pod["metadata"]["namespace"], spec["serviceAccountName"], token["audience"])
            )
            found[f"{mounts[volume['name']]}/{token['path']}"] = str(place / token["path"])
    return found


def token_text(namespace: str, account: str, audience: str) -> str:
    """A token of a ServiceAccount, as short as the emulation needs it."""
    return json.dumps(["token", namespace, account, audience])


def _matches(rule: Object, ended: Ended) -> bool:
    wanted = rule.get("onExitCodes")
    if not wanted:  # onPodConditions: nothing is drained here
        return False
    return (ended.code in wanted["values"]) is (wanted["operator"] == "In") and ended.code != 0


def _last_words(folder: Path, log: Path, code: int) -> str:
    """The termination message; with none, the end of the log of a container that failed."""
    path = folder / "termination"
    if path.exists() and (text := path.read_text(errors="replace")):
        return text[:MESSAGE_BYTES]
    return (
        "" if code == 0 else "".join(log.read_text(errors="replace").splitlines(keepends=True)[-80:])[-2048:]
    )


async def _kill(process: asyncio.subprocess.Process, grace: float) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        if grace:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await process.wait()
                return
        process.kill()
    await process.wait()
