#!/bin/sh
# What a driver and an installer would have left: the library, with the version of the driver in its
# name; device files; and where the kernel still has controllers in cgroups of version 1, these below
# /run/cgv1 for Slurm, which refuses a mixture.
# The numbers are NVIDIA's. With no driver behind them, to open one says ENXIO (no such device) where
# it is allowed and EPERM where a cgroup forbids it.
set -eu
driver=$(sed -n 's/^driver=//p' /etc/stand-in-gpus/answers)
libraries=/usr/lib/$(uname -m)-linux-gnu
if [ ! -e "$libraries/libnvidia-ml.so.$driver" ]; then
  install -m 0755 /usr/local/lib/stand-in-gpus/nvml.so "$libraries/libnvidia-ml.so.$driver"
  ln -sfn "libnvidia-ml.so.$driver" "$libraries/libnvidia-ml.so.1"
  ldconfig
fi

count=$(sed -n 's/^count=//p' /etc/stand-in-gpus/answers)
number=0
while [ "$number" -lt "$count" ]; do
  [ -e "/dev/nvidia$number" ] || mknod -m 0666 "/dev/nvidia$number" c 195 "$number"
  number=$((number + 1))
done
[ -e /dev/nvidiactl ] || mknod -m 0666 /dev/nvidiactl c 195 255

# Columns: name, hierarchy (0: of version 2), groups, enabled.
old=$(awk '$2 > 0 && $4 == 1 && $1 ~ /^(cpuset|cpu|cpuacct|memory|devices|freezer)$/ {print $1}' /proc/cgroups)
if [ -n "$old" ] && [ ! -d /run/cgv1 ]; then
  mkdir /run/cgv1
  mount -t tmpfs -o mode=0755 cgv1 /run/cgv1
  for controller in $old; do
    mkdir "/run/cgv1/$controller"
    mount -t cgroup -o "$controller" "$controller" "/run/cgv1/$controller"
  done
fi
