#!/usr/bin/env bash
# ONNX Runtime's disable_telemetry_events(), called right behind the import, does not keep it from its maker's host.
#
# Versions: onnxruntime 1.32.0, Linux x86-64, Python 3.11.
# Expected: with the call as the very first statement after `import onnxruntime`, and no session made, no telemetry is
#   sent; at most one initialization event, as Privacy.md warns. No file appears in the home directory.
# Seen: importing alone starts the uploader and writes a device number and an event store below ~/.cache/Microsoft. With
#   the call and without it, the process looks up mobile.events.data.microsoft.com equally often: the first time about
#   nine seconds after the import, then again and again. ORT_DISABLE_TELEMETRY=1 while it is imported, gone from the
#   environment right after, is silent: no name, no file.
# Runs in a network namespace of its own, so nothing leaves the machine. Needs root and `unshare` (util-linux), `ip`.
set -euo pipefail
if [ "${1:-}" != inside ]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    python3 -m venv "$folder/env"
    "$folder/env/bin/pip" install --quiet onnxruntime==1.32.0
    env -u CI unshare --net --mount bash "$0" inside "$folder"
    exit
fi
folder=$2
ip link set lo up
echo "nameserver 127.0.0.1" > "$folder/resolv.conf"
mount --bind "$folder/resolv.conf" "$(realpath /etc/resolv.conf)"
cat > "$folder/names.py" << 'EOF'
import socket
questions = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
questions.bind(("127.0.0.1", 53))
while True:
    asked, peer = questions.recvfrom(4096)
    name, at = [], 12
    while asked[at]:
        name.append(asked[at + 1 : at + 1 + asked[at]].decode())
        at += 1 + asked[at]
    print(".".join(name), flush=True)
    questions.sendto(asked[:2] + b"\x81\x83" + asked[4:6] + bytes(6) + asked[12 : at + 5], peer)  # no such name
EOF
python3 "$folder/names.py" >> "$folder/names" &
server=$!
trap 'kill $server' EXIT
sleep 0.5
run() { # title, statements
    : > "$folder/names"
    mkdir "$folder/home"
    HOME="$folder/home" TMPDIR="$folder/home" "$folder/env/bin/python" -B -c "import os, time
$2
time.sleep(20)" 2> /dev/null
    asked=$(wc -l < "$folder/names") files=$(find "$folder/home" -type f | wc -l)
    echo "$1: $asked questions ($(sort -u "$folder/names" | paste -sd, -)), $files files in HOME"
    rm -rf "$folder/home"
}
run "import alone" "import onnxruntime"
plain=$asked
run "import, then disable_telemetry_events()" "import onnxruntime; onnxruntime.disable_telemetry_events()"
called=$asked called_files=$files
run "ORT_DISABLE_TELEMETRY=1 during the import" "os.environ['ORT_DISABLE_TELEMETRY'] = '1'
import onnxruntime
del os.environ['ORT_DISABLE_TELEMETRY']"
if [ "$plain" -gt 0 ] && [ "$called" -gt 0 ] && [ "$called_files" -gt 0 ] && [ "$asked" -eq 0 ] && [ "$files" -eq 0 ]; then
    echo "as seen before"
else
    echo "this has changed"
    exit 1
fi
