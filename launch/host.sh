#!/usr/bin/env bash
# launch/host.sh install SHARE | train ARGUMENTS | stop
#
# What launch/tpu_vm.sh runs on every host of a slice, in the home directory that it unpacked satjax into:
#   install SHARE       mounts the share (HOST:/PATH or gs://BUCKET) at /mnt/satjax, and installs satjax for TPUs
#   train ARGUMENTS     starts `satjax train` apart from the connection, or finds the run that is there, and follows it to its end. Each install
#                       is for one start: gcloud gives a command again after a broken connection, and the run may have ended meanwhile
#   stop                asks the run to save a checkpoint and waits for its end
# Each ends with the line "satjax-launch: exit N", by which the launcher knows how it went on this host; train begins with "satjax-launch: step N",
# the step of the newest checkpoint.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

ENVIRONMENT=~/satjax-env
RUN=~/satjax-run
# Another after each start of the host, which has then lost what was mounted.
BOOT=$(</proc/sys/kernel/random/boot_id)

mount_share() {
  ! mountpoint -q "$SHARE_DIR" || return 0
  sudo mkdir -p "$SHARE_DIR"
  case $1 in
    gs://*)
      command -v gcsfuse >/dev/null || die "this host has no gcsfuse: install it, or share by NFS"
      sudo chown "$(id -u):$(id -g)" "$SHARE_DIR"
      # Without the limit no directory with files in it can be renamed, which is how a checkpoint is finished.
      gcsfuse --implicit-dirs --rename-dir-limit 100000 "${1#gs://}" "$SHARE_DIR"
      ;;
    *)
      if ! command -v mount.nfs >/dev/null; then
        # A machine that has just started is updating itself, for minutes.
        insist sudo apt-get -o DPkg::Lock::Timeout=600 update --quiet
        insist sudo apt-get -o DPkg::Lock::Timeout=600 install --yes --quiet nfs-common
      fi
      sudo mount -t nfs "$1" "$SHARE_DIR"
      [[ -w $SHARE_DIR ]] || sudo chmod a+rwxt "$SHARE_DIR"
      ;;
  esac
}

install_satjax() {
  # uv brings a Python of its own: the one of the TPU software is older than satjax needs.
  insist python3 -m pip install --quiet --user uv
  insist python3 -m uv venv --quiet --allow-existing --python 3.12 "$ENVIRONMENT"
  insist python3 -m uv pip install --quiet --python "$ENVIRONMENT/bin/python" "${ROOT}[tpu]"
}

# A run holds $RUN/lock for as long as it lives; nothing is left of that when the host restarts.
running() { ! flock --nonblock "$RUN/lock" true; }

supervise() {
  local code=0
  cd "$ROOT" || return
  SATJAX_CACHE=${SATJAX_CACHE:-$SHARE_DIR/cache} "$ENVIRONMENT/bin/satjax" train "$@" >"$RUN/log" 2>&1 &
  echo $! >"$RUN/pid"
  wait $! || code=$?
  echo "$code" >"$RUN/exit"
}

# How the run here ended; as if killed, where the host went down with it.
ended() {
  [[ -s $RUN/exit ]] || return 137
  return "$(<"$RUN/exit")"
}

train() {
  local follower tries
  REST=("$@")
  echo "satjax-launch: step $(newest_step "$(train_value workdir)")"
  if ! running; then
    if [[ $(cat "$RUN/ready" 2>/dev/null || true) != "$BOOT" ]]; then
      say "nothing is started here before satjax is installed again"
      # Somebody else's run says nothing about this one.
      [[ $(quoted "$@") == "$(cat "$RUN/arguments" 2>/dev/null || true)" ]] || return "$SAVED"
      ended
      return
    fi
    rm -f "$RUN/ready" "$RUN/exit" "$RUN/pid"
    quoted "$@" >"$RUN/arguments"
    : >"$RUN/log"
    setsid flock "$RUN/lock" bash "${BASH_SOURCE[0]}" supervise "$@" </dev/null >/dev/null 2>&1 &
    for ((tries = 0; tries < 300; tries++)); do
      [[ ! -s $RUN/pid ]] || break
      sleep 0.1
    done
    [[ -s $RUN/pid ]] || die "satjax did not start on this host: see whether its home can be written ($RUN)"
  else
    if [[ $(quoted "$@") != "$(<"$RUN/arguments")" ]]; then
      say "another run is on this host: satjax train $(<"$RUN/arguments")"
      return "$TAKEN"
    fi
    say "following the run that is there"
  fi
  tail -n +1 -f "$RUN/log" &
  follower=$!
  flock "$RUN/lock" true
  sleep 1
  kill "$follower" || true
  ended
}

stop() {
  running || return 0
  kill -TERM "$(<"$RUN/pid")" || true
  flock "$RUN/lock" true
}

verb=${1:-}
(($# == 0)) || shift
[[ $verb == supervise ]] || trap 'echo "satjax-launch: exit $?"' EXIT
case $verb in
  install | train | stop | supervise) mkdir -p "$RUN" ;;
esac
case $verb in
  install)
    if running; then
      say "a run is on this host: satjax stays as it is"
    else
      mount_share "$1"
      install_satjax
      echo "$BOOT" >"$RUN/ready"
    fi
    ;;
  train | stop | supervise) "$verb" "$@" ;;
  *)
    show_help
    exit 2
    ;;
esac
