#!/bin/sh
# Backs up a disk and its overlays: each layer on its own, the chain as one compressed image, verified.
# Usage: backup.sh TOP BACKUP_DIR      QEMU_IMG=qcow2 uses qcow2 in place of qemu-img.
set -eu
: "${QEMU_IMG:=qemu-img}"
top=$1
backup=$2
mkdir -p "$backup"

# The chain, top first, as the images themselves record it.
layers=$($QEMU_IMG info --backing-chain --output=json "$top" |
  sed -n 's/^ *"filename": "\(.*\)",\{0,1\}$/\1/p')
for layer in $layers; do
  status=0
  $QEMU_IMG check -q "$layer" || status=$?
  case $status in
    0 | 3 | 63) ;; # sound, leaks only, or a format without check
    *) echo "backup: $layer is damaged (check: $status)" >&2; exit 1 ;;
  esac
  echo "layer: $layer"
done

$QEMU_IMG convert -c -O qcow2 "$top" "$backup/full.qcow2"
$QEMU_IMG check -q "$backup/full.qcow2"
$QEMU_IMG compare -q "$top" "$backup/full.qcow2"
echo "backup: $backup/full.qcow2 is identical"

# The newest layer alone, over the same backing file.
base=$(printf '%s\n' "$layers" | sed -n 2p)
if [ -n "$base" ]; then
  format=$($QEMU_IMG info "$base" | sed -n 's/^file format: //p')
  base=$(cd "$(dirname "$base")" && pwd)/$(basename "$base")
  $QEMU_IMG convert -O qcow2 -B "$base" -F "$format" "$top" "$(dirname "$top")/increment.qcow2"
  $QEMU_IMG compare "$top" "$(dirname "$top")/increment.qcow2"
fi
