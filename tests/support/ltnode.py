#!/usr/bin/python3
"""A libtorrent session of its own, driven by JSON lines: one command in, one answer out.

Started as `ltnode.py '{"address": "198.18.0.2", "port": 6881, "settings": {…}}'`; says {"port": N} when it listens.
Commands: add, remove, peer, peers, status, set, limit, announce, watch (answers when the torrent is complete), quit.
"""
import json
import sys

import libtorrent as lt

NODE = json.loads(sys.argv[1])
SETTINGS = {
    "listen_interfaces": "%s:%d" % (NODE["address"], NODE["port"]),
    "outgoing_interfaces": NODE["address"],
    "alert_mask": lt.alert.category_t.status_notification,
    # Peers are introduced by commands and trackers alone.
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_outgoing_utp": False,
    "enable_incoming_utp": False,
    "in_enc_policy": 2,
    "out_enc_policy": 2,
    # Tests are impatient.
    "min_reconnect_time": 1,
    "connection_speed": 500,
    "active_limit": -1,
    "active_seeds": -1,
    "active_downloads": -1,
}
SETTINGS.update(NODE.get("settings", {}))
session = lt.session(SETTINGS)
torrents = {}


def add(torrent, folder, seed=False, up=-1, down=-1):
    info = lt.torrent_info(torrent)
    flags = lt.torrent_flags.update_subscribe | lt.torrent_flags.apply_ip_filter
    if seed:
        flags |= lt.torrent_flags.seed_mode
    handle = session.add_torrent({"ti": info, "save_path": folder, "flags": flags})
    handle.set_upload_limit(up)
    handle.set_download_limit(down)
    torrents[str(info.info_hash())] = handle
    return {}


def remove(hash):
    session.remove_torrent(torrents.pop(hash))
    return {}


def peer(hash, address, port):
    torrents[hash].connect_peer((address, port))
    return {}


def peers(hash):
    return {
        "peers": [
            {
                "address": p.ip[0],
                "port": p.ip[1],
                "client": p.client.decode("latin1"),
                "down_bytes": p.total_download,
                "up_bytes": p.total_upload,
                "progress": p.progress,
            }
            for p in torrents[hash].get_peer_info()
        ]
    }


def status(hash):
    s = torrents[hash].status()
    return {
        "done": s.is_seeding,
        "ready": "checking" not in str(s.state),
        "have_bytes": s.total_done,
        "up_bytes": s.total_payload_upload,
        "down_bytes": s.total_payload_download,
        "failed_bytes": s.total_failed_bytes,
        "redundant_bytes": s.total_redundant_bytes,
        "peers": s.num_peers,
        "error": s.errc.message() if s.errc.value() else "",
    }


def watch(hash, seconds):
    """Waits until the torrent is complete, by libtorrent's own alerts."""
    import time

    end = time.monotonic() + seconds
    while not torrents[hash].status().is_seeding:
        left = end - time.monotonic()
        if left <= 0:
            return {"done": False}
        session.wait_for_alert(int(min(left, 1) * 1000))
        session.pop_alerts()
    return {"done": True}


def limit(hash, up=-1, down=-1):
    torrents[hash].set_upload_limit(up)
    torrents[hash].set_download_limit(down)
    return {}


def announce(hash):
    """Announces again now, however long the tracker wants to be left alone."""
    torrents[hash].force_reannounce(0, -1, lt.torrent_handle.ignore_min_interval)
    return {}


def settings(settings):
    session.apply_settings(settings)
    return {}


COMMANDS = {"add": add, "remove": remove, "peer": peer, "peers": peers, "status": status, "watch": watch,
            "limit": limit, "set": settings, "announce": announce}

print(json.dumps({"port": session.listen_port()}), flush=True)
for line in sys.stdin:
    command = json.loads(line)
    name = command.pop("command")
    if name == "quit":
        break
    try:
        answer = COMMANDS[name](**command)
    except Exception as error:  # the test decides what is fatal
        answer = {"error": repr(error)}
    print(json.dumps(answer), flush=True)
