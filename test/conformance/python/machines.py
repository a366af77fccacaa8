"""The Python client and command line, unchanged, against a compute node.

    machines.py

What it talks to is in the environment: see TestPythonMachines.
"""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import aiohttp
from aleph.sdk.chains.ethereum import ETHAccount
from aleph.sdk.chains.solana import SOLAccount
from aleph.sdk.client import AuthenticatedAlephHttpClient
from aleph.sdk.client.services.crn import SystemUsage
from aleph.sdk.client.vm_client import VmClient
from aleph.sdk.types import PortFlags, Ports, StorageEnum
from aleph_message.models import Chain, ItemHash, Payment, PaymentType

NODE, CRN, CRN_HASH = (os.environ["CONFORMANCE_" + name] for name in ("NODE", "CRN", "CRN_HASH"))
SECRET = os.environ["CONFORMANCE_ACCOUNT"]
PRICES = Path(__file__).parents[3] / "protocol/pricing/default.json"
NOBODY = ItemHash("0" * 64)
LONG = 900  # seconds, for machines that boot by translation


def same(what, got, want):
    """Ends the program when something is not what it should be."""
    if got != want:
        sys.exit(f"{what} is {got!r}, want {want!r}")
    print("ok", what, flush=True)


def within(what, part, text):
    same(f"{what}: {part}", part in text or text, True)


def command(*args, typed=None):
    """Runs a command of the command line, and returns what it says."""
    run = subprocess.run(
        [os.environ["CONFORMANCE_BIN"] + "/aleph", "--no-format", *args, "--private-key", SECRET],
        input=typed, capture_output=True, text=True, timeout=LONG, env={**os.environ, "COLUMNS": "4000"},  # Lines are not broken.
    )
    if run.returncode:
        sys.exit(f"{args} ended with {run.returncode}:\n{run.stdout}\n{run.stderr[-2000:]}")
    print("ok", "aleph", *args[:3], flush=True)
    return run.stdout


async def until(what, look):
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        if found := await look():
            return found
        await asyncio.sleep(1)
    sys.exit(f"waited {LONG} s for {what}")


async def network():
    """Publishes what clients read of the network before they make a machine."""
    account = ETHAccount(bytes.fromhex(os.environ["CONFORMANCE_PRICES"]))
    async with AuthenticatedAlephHttpClient(account=account, api_server=NODE) as client:
        await client.create_aggregate("pricing", json.loads(PRICES.read_text())["pricing"], sync=True)
        await client.create_aggregate("settings", {
            "compatible_gpus": [], "last_crn_version": "1.0.0", "community_wallet_timestamp": 0,
            "community_wallet_address": account.get_address(),
        }, sync=True)


async def create(client):
    """Makes an instance with the command line, which asks the node and starts it."""
    said = command(
        "instance", "create", "--payment-type", "credit", "--payment-chain", "ETH", "--rootfs", os.environ["CONFORMANCE_IMAGE"],
        "--compute-units", "1", "--rootfs-size", "20480", "--name", "conformance", "--skip-volume",
        "--ssh-pubkey-file", os.environ["CONFORMANCE_SSH_KEY"], "--crn-url", CRN, "--crn-hash", CRN_HASH,
    )
    instances = await client.instance.get_instances(address=client.account.get_address())
    same("instances", len(instances), 1)
    vm = instances[0].item_hash
    within("what create says", f"{vm} has been deployed", " ".join(said.split()))
    return vm


async def lists(client, vm):
    """Reads both lists, as the client parses them, and the machine as it lists it."""
    v2 = await client.crn.get_active_vms_v2(CRN)
    same("second list", (list(v2.root), v2.root[vm].running), ([vm], True))
    same("SSH is forwarded", v2.root[vm].networking.mapped_ports["22"].tcp, True)
    same("first list", list((await client.crn.get_active_vms_v1(CRN)).root), [vm])
    shown = json.loads(command("instance", "list", "--json"))
    same("execution in the list", shown[0]["execution"]["running"], True)
    same("allocation in the list", shown[0]["allocation"]["crn_url"], CRN)
    async with aiohttp.ClientSession() as session, session.get(CRN + "/about/usage/system") as response:
        same("usage", SystemUsage.model_validate(await response.json()).active, True)


async def refusals(client, vm):
    """What the node refuses, as the client hands it on."""
    async with VmClient(client.account, CRN) as mine, VmClient(ETHAccount(os.urandom(32)), CRN) as theirs, VmClient(SOLAccount(os.urandom(32)), CRN) as solana:
        same("a machine of nobody", await mine.stop_instance(NOBODY), (404, json.dumps({"error": f"No virtual machine with ref {NOBODY}"}, separators=(",", ":"))))
        same("a message of nobody", (await mine.start_instance(NOBODY))[0], 404)
        same("a stranger", await theirs.reboot_instance(vm), (403, "Unauthorized sender"))
        same("a stranger of Solana", await solana.reboot_instance(vm), (403, "Unauthorized sender"))
        same("a stranger's log", [json.loads(frame) async for frame in theirs.get_logs(vm)], [{"status": "failed", "reason": "unauthorized sender"}])
        same("no time to expire after", await mine.expire_instance(vm), (400, '{"error":"Invalid timeout duration"}'))
        same("a rescue, which no node has", (await mine.enter_rescue(vm))[0], 404)
        same("a backup that is not there", (await mine.get_backup(vm))[0], 404)


async def log(client, vm):
    """Follows the log until the machine is up."""
    async def ready():
        async with VmClient(client.account, CRN) as mine:
            async for frame in mine.get_logs(vm):
                if "ready after" in frame:
                    return True
    await until("the machine to be ready", ready)
    print("ok log", flush=True)


async def ports(client, vm):
    """Forwards one more port, and lets the node read it."""
    await client.port_forwarder.create_ports(item_hash=vm, ports=Ports(ports={22: PortFlags(tcp=True, udp=False), 8080: PortFlags(tcp=True, udp=True)}))
    same("update", await client.crn.update_instance_config(CRN, vm), {})

    async def mapped():
        return (await client.crn.get_vm(CRN, vm)).networking.mapped_ports.get("8080")
    same("port 8080 by UDP", (await until("port 8080 to be forwarded", mapped)).udp, True)


async def backups(client, vm):
    """Makes a backup, brings it, and puts it back."""
    command("instance", "backup", "create", vm, "--domain", CRN, "--follow", "--skip-fsfreeze")
    info = json.loads(command("instance", "backup", "info", vm, "--domain", CRN, "--json"))
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "backup.tar")
        command("instance", "backup", "download", "--vm-id", vm, "--domain", CRN, "--output", str(archive))
        same("checksum", "sha256:" + hashlib.sha256(archive.read_bytes()).hexdigest(), info["checksum"])
        with tarfile.open(archive) as tar:
            tar.extract("rootfs.qcow2", folder, filter="data")
        command("instance", "backup", "restore", vm, "--domain", CRN, "--file", str(Path(folder, "rootfs.qcow2")), typed="y\n")
        async with VmClient(client.account, CRN) as mine:
            status, text = await mine.restore_from_file(vm, Path(folder, "rootfs.qcow2"))
            same("restore", (status, json.loads(text)["status"]), (200, "restored"))
            same("a volume of nobody", (await mine.restore_from_volume(vm, NOBODY))[0], 404)
    within("what delete says", "deleted", command("instance", "backup", "delete", vm, info["backup_id"], "--domain", CRN, typed="y\n"))


async def life(client, vm):
    """Reboots, stops, starts, installs anew and erases it."""
    within("what reboot says", "VM rebooted", command("instance", "reboot", vm, "--domain", CRN))
    within("what stop says", "VM stopped", command("instance", "stop", vm, "--domain", CRN))
    same("whether it runs", (await client.crn.get_vm(CRN, vm)).running, False)
    within("the log of a machine that does not run", "VM is not running, past logs sent", command("instance", "logs", vm, "--domain", CRN))
    within("what start says", "VM allocated", command("instance", "start", vm, "--domain", CRN))
    within("what reinstall says", "VM reinstalled", command("instance", "reinstall", vm, "--domain", CRN, typed="y\n"))
    async with VmClient(client.account, CRN) as mine:
        same("erase", await mine.erase_instance(vm), (200, f"Erased VM with ref {vm}"))
        same("reboot of an erased machine", (await mine.reboot_instance(vm))[0], 404)
    same("an erased machine", await client.crn.get_vm(CRN, vm), None)
    within("what delete says", "has been deleted", command("instance", "delete", vm))


async def program(client):
    """Calls a program by its path."""
    source, _ = await client.create_store(file_path=os.environ["CONFORMANCE_CODE"], storage_engine=StorageEnum.storage, sync=True)
    made, _ = await client.create_program(
        program_ref=source.item_hash, entrypoint="main:app", runtime=os.environ["CONFORMANCE_RUNTIME"], memory=256, timeout_seconds=300,
        payment=Payment(chain=Chain.ETH, type=PaymentType.credit, receiver=None), sync=True,
    )
    timeout = aiohttp.ClientTimeout(total=LONG)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(f"{CRN}/vm/{made.item_hash}/a/b") as response:
        same("a program's answer", (response.status, (await response.json())["path"]), (200, "/a/b"))


async def main():
    await network()
    account = ETHAccount(bytes.fromhex(SECRET))
    async with AuthenticatedAlephHttpClient(account=account, api_server=NODE) as client:
        vm = await create(client)
        await lists(client, vm)
        await refusals(client, vm)
        await log(client, vm)
        await ports(client, vm)
        await backups(client, vm)
        await life(client, vm)
        await program(client)


asyncio.run(main())
