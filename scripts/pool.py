#!/usr/bin/env python3
"""What the entry script needs to ask a running pool, by its published API.

Usage: pool.py --state DIR [--socket PATH] [--timeout S] COMMAND [ARGUMENTS]
  answers          wait until the pool answers
  token FILE       write a new one-time join token to FILE (mode 0600)
  hosts N          wait until N hosts are live
  set-up           make what a new pool starts with: repositories, templates; prints what it made. With --host UUID the
                   repositories are of that host alone; they are in --repositories DIR, kernels of templates in --images DIR
  summary          lines NAME=VALUE: hosts, live, guests, and away for each host that does not answer
  stop-guests S    shut down all guests: cleanly within S seconds, then by force
  port-free N      can 127.0.0.1:N be had (needs no pool)
"""
import argparse
import os
import socket
import sys
import time

from xenapi import Failure, Pool

MIB = 1 << 20


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def client(state, path):
    """Over the socket, where the password does not matter: it may have been changed. In a folder too deep for a
    socket's path there is none."""
    path = path or os.path.join(os.path.abspath(state), "poold.sock")
    if os.path.exists(path):
        return Pool("unix:" + path, None), ""
    return (Pool(f"https://127.0.0.1:{read(os.path.join(state, 'poold.port'))}", os.path.join(state, "pki", "ca.pem")),
            read(os.path.join(state, "admin-password")))


def connect(state, path, timeout_s):
    """A logged-in client of the pool in `state`, waited for at most `timeout_s`; and its password."""
    end = time.monotonic() + timeout_s
    while True:
        try:
            pool, password = client(state, path)
            pool.login("root", password)
            return pool, password
        except OSError as error:
            if time.monotonic() >= end:
                raise SystemExit(f"the pool does not answer: {error}") from error
            time.sleep(0.1)


def write_token(pool, password, path):
    answer = pool.post("/api/v1/join-tokens", {}, "root", password)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "w", encoding="ascii") as file:
        file.write(answer["token"] + "\n")


def live_hosts(pool):
    metrics = pool.host_metrics.get_all_records()
    return [ref for ref, host in pool.host.get_all_records().items()
            if metrics.get(host["metrics"], {}).get("live")]


def wait_for_hosts(pool, count, timeout_s):
    end = time.monotonic() + timeout_s
    while len(live_hosts(pool)) < count:
        if time.monotonic() >= end:
            raise SystemExit(f"{len(live_hosts(pool))} of {count} hosts are live after {timeout_s:g} s")
        time.sleep(0.1)


def wait_for_host(pool, uuid, timeout_s):
    if uuid not in {host["uuid"] for host in pool.host.get_all_records().values()}:
        raise SystemExit(f"the host {uuid} is of another pool: remove the folder of its agent, and it can join this one")
    end = time.monotonic() + timeout_s
    while pool.host.get_by_uuid(uuid) not in live_hosts(pool):
        if time.monotonic() >= end:
            raise SystemExit(f"the host {uuid} is not live after {timeout_s:g} s")
        time.sleep(0.1)


# --- what a new pool starts with -------------------------------------------------------------

def repository(pool, made, name, description, kind, content, path, host):
    """An SR over a folder: of `host`, or without one of this machine where all hosts are; plugged on each then."""
    found = [ref for ref, sr in pool.SR.get_all_records().items()
             if sr["name_label"] == name and sr["type"] == kind]
    hosts = [host] if host else sorted(pool.host.get_all())
    config = {"location": path}
    if found:
        sr = found[0]
    else:
        sr = pool.SR.create(hosts[0], config, 0, name, description, kind, content, not host, {})
        made.append(f"repository '{name}'")
    plugged = {pbd["host"]: ref for ref, pbd in pool.PBD.get_all_records().items() if pbd["SR"] == sr}
    for host in hosts:
        if host not in plugged:
            pbd = pool.PBD.create({"host": host, "SR": sr, "device_config": config, "other_config": {}})
            pool.PBD.plug(pbd)
        elif not pool.PBD.get_currently_attached(plugged[host]):
            pool.PBD.plug(plugged[host])
    return sr


def template_record(name, description, memory_mib, **fields):
    """A template with all fields that VM.create wants."""
    record = {
        "name_label": name, "name_description": description,
        "user_version": 1, "is_a_template": True, "is_default_template": True,
        "memory_static_max": memory_mib * MIB, "memory_dynamic_max": memory_mib * MIB,
        "memory_dynamic_min": memory_mib * MIB, "memory_static_min": 128 * MIB,
        "VCPUs_params": {}, "VCPUs_max": 1, "VCPUs_at_startup": 1,
        "actions_after_shutdown": "destroy", "actions_after_reboot": "restart",
        "actions_after_crash": "restart",
        "PV_bootloader": "", "PV_kernel": "", "PV_ramdisk": "", "PV_args": "", "PV_bootloader_args": "",
        "PV_legacy_args": "", "HVM_boot_policy": "", "HVM_boot_params": {}, "HVM_shadow_multiplier": 1.0,
        "platform": {}, "PCI_bus": "", "recommendations":
            '<restrictions><restriction field="memory-static-max" max="17179869184"/>'
            '<restriction field="vcpus-max" max="16"/><restriction property="number-of-vbds" max="16"/>'
            '<restriction property="number-of-vifs" max="7"/></restrictions>',
        "other_config": {}, "affinity": "OpaqueRef:NULL", "xenstore_data": {}, "ha_always_run": False,
        "ha_restart_priority": "", "blocked_operations": {}, "tags": [],
    }
    assert record.keys() >= fields.keys()
    record.update(fields)
    return record


def disks(*sizes_mib):
    """other_config:disks, from which VM.provision makes the disks of a new VM."""
    return "<provision>" + "".join(
        f'<disk device="{device}" size="{size * MIB}" sr="" bootable="false" type="system"/>'
        for device, size in enumerate(sizes_mib)) + "</provision>"


TEMPLATES = [
    # Booted by its own kernel, on a disk that it formats itself.
    template_record(
        "Corral tiny Linux", "A small Linux made on this machine: boots in seconds, has consoles, an address, a "
        "guest agent, and a disk of 256 MiB at /data", 256,
        PV_kernel="tiny.vmlinuz", PV_ramdisk="tiny.initrd", PV_args="console=ttyS0 quiet no_timer_check",
        other_config={"disks": disks(256), "default_template": "true", "linux_template": "true"}),
    # Booted by its firmware, from CD until the disk has a system.
    template_record(
        "Other install media", "For any system that installs itself from a CD, or comes on a disk image", 1024,
        HVM_boot_policy="BIOS order", HVM_boot_params={"order": "cd"},
        platform={"acpi": "1", "apic": "true", "pae": "true", "viridian": "false"},
        other_config={"disks": disks(), "default_template": "true", "install-methods": "cdrom"}),
]


# Where its kernel is in the hosts' images: boots that once, then from the disk that it has filled.
INSTALLER = template_record(
    "Debian 12 (installer)", "Debian's installer, from the network: answer it on the serial console, or say preseed=URL",
    1024, HVM_boot_policy="BIOS order", HVM_boot_params={"order": "cd"},
    other_config={"disks": disks(8192), "default_template": "true", "linux_template": "true", "install-methods": "http",
                  "corral:install-kernel": "debian-12-installer.linux",
                  "corral:install-ramdisk": "debian-12-installer.initrd",
                  "corral:install-arguments": "console=ttyS0,115200n8 --- console=tty0 console=ttyS0,115200n8"})


def kernel_of(record):
    """The file that it boots, in the hosts' images; None: it boots by firmware."""
    return record["PV_kernel"] or record["other_config"].get("corral:install-kernel")


def templates(pool, made, images):
    present = {vm["name_label"] for vm in pool.VM.get_all_records().values()
               if vm["is_a_template"] and not vm["is_a_snapshot"]}
    # The network that works on every host; those of interfaces want a bridge, which may not be had.
    everywhere = [ref for ref, network in pool.network.get_all_records().items()
                  if network["other_config"].get("corral:kind") == "user"]
    for record in TEMPLATES + [INSTALLER]:
        kernel = kernel_of(record)
        if record["name_label"] in present or (kernel and not os.path.exists(os.path.join(images, kernel))):
            continue
        vm = pool.VM.create(record)
        try:
            if everywhere:
                pool.VIF.create({"device": "0", "network": everywhere[0], "VM": vm, "MAC": "", "MTU": 1500,
                                 "other_config": {}, "qos_algorithm_type": "", "qos_algorithm_params": {}})
        except Failure:
            pool.VM.destroy(vm)
            raise
        made.append(f"template '{record['name_label']}'")


def set_up(pool, folder, images, host_uuid):
    made = []
    host = host_uuid and pool.host.get_by_uuid(host_uuid)
    sr = repository(pool, made, "Local storage", "Disks of guests, as files", "file", "user",
                    os.path.join(folder, "sr"), host)
    repository(pool, made, "ISO library", f"CD images: files *.iso in {folder}/iso", "iso", "iso",
               os.path.join(folder, "iso"), host)
    the_pool = pool.pool.get_all()[0]
    if pool.pool.get_default_SR(the_pool) == "OpaqueRef:NULL":
        pool.pool.set_default_SR(the_pool, sr)
    templates(pool, made, images)
    return made


# --- guests ----------------------------------------------------------------------------------

def guests(pool):
    """Refs of the VMs that run: no templates, no control domains."""
    return {ref: vm for ref, vm in pool.VM.get_all_records().items()
            if vm["power_state"] in ("Running", "Paused") and not vm["is_a_template"]
            and not vm["is_control_domain"]}


def stop_guests(pool, limit_s):
    end = time.monotonic() + limit_s
    tasks = {}
    for ref, vm in guests(pool).items():
        try:
            if vm["power_state"] == "Paused":
                pool.VM.unpause(ref)
            tasks[ref] = pool.call("Async.VM.clean_shutdown", pool.session, ref)
        except Failure as failure:
            print(f"{vm['name_label']}: {failure}")
    while time.monotonic() < end and any(pool.task.get_status(task) == "pending" for task in tasks.values()):
        time.sleep(0.2)
    for task in tasks.values():
        if pool.task.get_status(task) == "pending":
            pool.task.cancel(task)
    for ref, vm in guests(pool).items():
        print(f"{vm['name_label']} did not shut down: forced")
        pool.VM.hard_shutdown(ref)
    return len(tasks)


def main():
    parser = argparse.ArgumentParser(usage=__doc__, add_help=False)
    parser.add_argument("--state", default="")
    parser.add_argument("--socket")
    parser.add_argument("--host")
    parser.add_argument("--repositories")
    parser.add_argument("--images")
    parser.add_argument("--timeout", type=float, default=30)
    parser.add_argument("command")
    parser.add_argument("argument", nargs="?")
    options = parser.parse_args()
    if options.command == "port-free":
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", int(options.argument)))
            except OSError as error:
                raise SystemExit(f"port {options.argument} on 127.0.0.1: {error.strerror}") from error
        return
    pool, password = connect(options.state, options.socket, options.timeout)
    try:
        if options.command == "token":
            write_token(pool, password, options.argument)
        elif options.command == "hosts":
            wait_for_hosts(pool, int(options.argument), options.timeout)
        elif options.command == "set-up":
            if options.host:
                wait_for_host(pool, options.host, options.timeout)
            made = set_up(pool, options.repositories or options.state,
                          options.images or os.path.join(options.state, "images"), options.host)
            print("\n".join(made))
        elif options.command == "summary":
            hosts, live = pool.host.get_all_records(), live_hosts(pool)
            print(f"hosts={len(hosts)}\nlive={len(live)}\nguests={len(guests(pool))}")
            for away in [host for ref, host in hosts.items() if ref not in live]:
                print(f"away={away['name_label']} ({away['uuid']})")
        elif options.command == "stop-guests":
            print(stop_guests(pool, float(options.argument)))
        elif options.command != "answers":
            raise SystemExit(f"unknown command {options.command}")
    finally:
        try:
            pool.logout()
        except (OSError, Failure):
            pass  # the session ends by itself
        pool.close()


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"the pool refused {failure}")
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
