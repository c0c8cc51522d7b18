#!/usr/bin/env bash
# OpenVINO's command to decline telemetry sends an event, and importing openvino sends one before anything was asked.
#
# Versions: openvino 2026.4.1, openvino-telemetry 2025.2.0, Linux x86-64, Python 3.11.
# Expected: `opt_in_out --opt_out` in a fresh home directory writes the choice down and sends nothing.
# Seen: it looks up www.google-analytics.com, to report that this user declined; only then is it quiet. `import openvino`
#   alone, without that file, writes ~/intel/openvino_ga_cid and ~/intel/stats and looks up the same host. Where the
#   package openvino_telemetry cannot be imported, OpenVINO takes a stub of its own and is silent.
# Runs in a network namespace of its own, so nothing leaves the machine. Needs root and `unshare` (util-linux), `ip`.
set -euo pipefail
if [ "${1:-}" != inside ]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    python3 -m venv "$folder/env"
    "$folder/env/bin/pip" install --quiet openvino==2026.4.1 openvino-telemetry==2025.2.0
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
run() { # title, command...
    : > "$folder/names"
    mkdir "$folder/home"
    HOME="$folder/home" "${@:2}" > /dev/null 2>&1
    sleep 1
    asked=$(wc -l < "$folder/names") files=$(cd "$folder/home" && find . -type f | sort | paste -sd' ' -)
    echo "$1: $asked questions ($(sort -u "$folder/names" | paste -sd, -)); files in HOME: ${files:-none}"
    rm -rf "$folder/home"
}
python="$folder/env/bin/python"
run "opt_in_out --opt_out" "$folder/env/bin/opt_in_out" --opt_out
declined=$asked
run "import openvino" "$python" -c "import openvino, time; time.sleep(3)"
imported=$asked
run "import openvino without openvino_telemetry" "$python" -c "import sys, time
sys.modules['openvino_telemetry'] = None
import openvino; time.sleep(3)"
if [ "$declined" -gt 0 ] && [ "$imported" -gt 0 ] && [ "$asked" -eq 0 ] && [ -z "$files" ]; then
    echo "as seen before"
else
    echo "this has changed"
    exit 1
fi
