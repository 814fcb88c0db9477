#!/usr/bin/env python3
"""image.py ROOTFS OUT.tar NAME:TAG: writes an image with one layer for `docker load`, `podman load` and `ctr image import`.

It is an OCI image layout that also has the manifest.json of a docker archive.
"""

import hashlib
import io
import json
import platform
import sys
import tarfile

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
CONFIG = {
    "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "IMAGE=yes"],
    "Cmd": ["/bin/sh"],
}


def layer_of(rootfs):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(rootfs, arcname=".")
    return buffer.getvalue()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def main():
    rootfs, out, name = sys.argv[1:]
    blobs = {}

    def blob(kind, data):
        blobs[sha256(data)] = data
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{sha256(data)}", "size": len(data)}

    layer = blob("layer.v1.tar", layer_of(rootfs))
    config = {
        "created": "2026-01-01T00:00:00Z",
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": CONFIG,
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "image.py"}],
    }
    config = blob("config.v1+json", json.dumps(config).encode())
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": [layer]}
    manifest = blob("manifest.v1+json", json.dumps(manifest).encode())
    manifest["platform"] = {"architecture": ARCHITECTURES.get(platform.machine(), platform.machine()), "os": "linux"}
    manifest["annotations"] = {
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": name.rsplit(":", 1)[1],
    }
    path = lambda entry: "blobs/sha256/" + entry["digest"].split(":")[1]
    files = {"blobs/sha256/" + digest: data for digest, data in blobs.items()}
    files["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode()
    files["manifest.json"] = json.dumps([{"Config": path(config), "RepoTags": [name], "Layers": [path(layer)]}]).encode()
    with tarfile.open(out, "w") as tar:
        for path, data in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


main()
