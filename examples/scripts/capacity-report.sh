#!/bin/sh
# Says what the images in a folder hold and would need elsewhere, for capacity planning.
# Usage: capacity-report.sh DIR      QEMU_IMG=qcow2 uses qcow2 in place of qemu-img.
set -eu
: "${QEMU_IMG:=qemu-img}"
cd "$1"

number() { # the value of a key in JSON on standard input
  sed -n "s/^ *\"$1\": \([0-9]*\),\{0,1\}$/\1/p" | head -n 1
}

printf '%-20s %12s %12s %12s %12s %6s\n' image virtual mapped as-qcow2 as-raw holes
total=0
for image in *.qcow2 *.raw; do
  [ -e "$image" ] || continue
  virtual=$($QEMU_IMG info --output=json "$image" | number virtual-size)
  map=$($QEMU_IMG map --output=json "$image")
  mapped=$(printf '%s\n' "$map" | sed -n 's/.*"length": \([0-9]*\).*"data": true.*/\1/p' |
    awk '{ sum += $1 } END { print sum + 0 }')
  holes=$(printf '%s\n' "$map" | grep -c '"data": false' || true)
  qcow2=$($QEMU_IMG measure --output=json -O qcow2 "$image" | number required)
  raw=$($QEMU_IMG measure --output=json -O raw "$image" | number required)
  printf '%-20s %12s %12s %12s %12s %6s\n' "$image" "$virtual" "$mapped" "$qcow2" "$raw" "$holes"
  total=$((total + qcow2))
done
echo "all as qcow2: $total bytes"
$QEMU_IMG measure -O qcow2 -o cluster_size=2M --size 100G
