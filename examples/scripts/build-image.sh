#!/bin/sh
# Builds the images of a release from a raw disk: one to ship, one to run, a template for overlays.
# Usage: build-image.sh DISK.raw OUT_DIR      QEMU_IMG=qcow2 uses qcow2 in place of qemu-img.
set -eu
: "${QEMU_IMG:=qemu-img}"
disk=$1
out=$2
mkdir -p "$out"

$QEMU_IMG convert -p -f raw -O qcow2 -c -o compression_type=zstd,cluster_size=128k "$disk" "$out/ship.qcow2" |
  tr '\r' '\n' | tail -n 1
$QEMU_IMG convert -f raw -O qcow2 -o lazy_refcounts=on,extended_l2=on,cluster_size=128k "$disk" "$out/run.qcow2"
$QEMU_IMG convert -f raw -O qcow2 -o compat=0.10 "$disk" "$out/old.qcow2"
for image in ship run old; do
  $QEMU_IMG check "$out/$image.qcow2" | head -n 1
  $QEMU_IMG compare -f raw -F qcow2 "$disk" "$out/$image.qcow2"
done

cd "$out"
$QEMU_IMG create -f qcow2 -F qcow2 -b run.qcow2 vm.qcow2
$QEMU_IMG create -f qcow2 -o preallocation=metadata scratch.qcow2 64M
$QEMU_IMG create -f raw swap.raw 16M
$QEMU_IMG info vm.qcow2 | grep -v '^disk size'
$QEMU_IMG info --output=json ship.qcow2 | grep -v actual-size
