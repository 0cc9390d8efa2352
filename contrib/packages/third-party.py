#!/usr/bin/env python3
"""The crates that are linked into doorman, and their licences, with the texts that they come with.

Reads `cargo metadata`. Build tools and what only tests use are left out. A text that several crates have alike is printed once.
"""

import json
import os
import re
import sys

metadata = json.load(sys.stdin)
packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
linked, todo = set(), [metadata["resolve"]["root"]]
while todo:
    at = todo.pop()
    if at in linked:
        continue
    linked.add(at)
    for dependency in nodes[at]["deps"]:
        if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
            todo.append(dependency["pkg"])
linked.remove(metadata["resolve"]["root"])



def places(package):
    """Where a crate's licences lie: at its top, and in one that brings a C library, where that has its own."""
    top = os.path.dirname(package["manifest_path"])
    yield top
    if package["links"]:
        for entry in sorted(os.scandir(top), key=lambda entry: entry.name):
            if entry.is_dir():
                yield entry.path


texts = {}
print("doorman contains these crates, from https://crates.io:\n")
for package in sorted((packages[id] for id in linked), key=lambda package: (package["name"], package["version"])):
    name = f"{package['name']} {package['version']}"
    print(f"{name}: {package['license'] or 'see below'}")
    for directory in places(package):
        for file in sorted(os.listdir(directory)):
            path = os.path.join(directory, file)
            if re.match(r"(?i)(un)?licen[cs]e|copying|copyright|notice", file) and os.path.isfile(path):
                with open(path, encoding="utf-8", errors="replace") as source:
                    text = "\n".join(line.rstrip() for line in source.read().strip().splitlines())
                texts.setdefault(text, []).append(name)
for text, names in sorted(texts.items(), key=lambda entry: entry[1]):
    names = sorted(set(names))
    print(f"\n{'=' * 78}\n{', '.join(names)}\n{'=' * 78}\n\n{text}")
