#!/usr/bin/env bash
# Trains on Google's TPUs: ./launch/tpu_vm.sh COMMAND --name=NAME --zone=ZONE [options] [-- flags of electra_jax.main]
#
#   train    all of these: create, wait, sync, run, watch; restarts from the saved state until the run is done
#   create   asks for the TPUs (a queued resource); a request that can no longer come true is replaced
#   sync     copies the commit checked out here to all workers and installs its requirements there
#   run      starts electra_jax.main on all workers, where it keeps running when this machine disconnects
#   logs     shows the log of a worker: [--worker=0] [--slice=0] [--lines=100] [--follow]
#   status   prints the state of the request and of the run on each worker
#   stop     asks the run to save its state and end
#   delete   releases the TPUs and their disks, with all files
#
# The workdir, the data and the compile cache lie in a bucket, gs://BUCKET/…, or on a folder that all workers mount; see
# Storage in launch/README.md. Every command can be repeated. --dry_run prints what would be run, and runs nothing.
#
#   --name=NAME               name of the queued resource and its TPUs
#   --zone=ZONE               for example us-west4-a
#   --project=PROJECT         default: gcloud's
#   --topology=v5e:4x4        the slice, in the notation of electra_jax.plan (create, train)
#   --accelerator_type=TYPE   the same in Google's notation, for example v5litepod-16
#   --runtime_version=NAME    the TPUs' image; default: the one for the generation
#   --slices=1                number of such slices, connected by the data centre's network
#   --spot                    cheaper, but Google may preempt them at any time
#   --create_flag=FLAG        a further flag for gcloud … create, for example --create_flag=--reserved; may be repeated
#   --ssh_flag=FLAG           a further flag for gcloud … ssh and scp, for example --ssh_flag=--internal-ip; may be repeated
#   --setup=FILE              a script that each worker runs after installing (sync, train): mounts of NFS, for example
#   --poll=30                 seconds between two checks of the state
#   --retries=3               retries in a row of a run that crashes or a request that fails (train)
#   --delete_when_done        releases the TPUs after exit code 0 (train)
#
# Exit codes: those of electra_jax.main, and 64 for bad options, 1 when gcloud fails.
set -euo pipefail
started_in=$PWD
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." >/dev/null

# For the Bash 3.2 of macOS, too: no associative arrays, and "${a[@]+…}" where an array may be empty.

readonly WORKER="electra_jax/code/launch/worker.sh"
# How many checks in a row may fail, and for how many checks a worker may keep running after another one has ended.
readonly MAX_FAILED_LOOKS=20
readonly MAX_LATE_LOOKS=20

say() {
  echo "$*" >&2
}

fail() {
  local code=$1
  shift
  say "$*"
  exit "$code"
}

# Prints $1 quoted for a shell.
quoted() {
  local rest=$1 result=""
  case $rest in
    "" | *[!A-Za-z0-9_./:=,@%+-]*) ;;
    *)
      printf '%s' "$rest"
      return
      ;;
  esac
  while [[ $rest == *"'"* ]]; do
    result+=${rest%%"'"*}"'\\''"
    rest=${rest#*"'"}
  done
  printf "'%s'" "$result$rest"
}

# Prints a command on one line that can be pasted into a shell.
command_line() {
  local word separator=""
  for word in "$@"; do
    printf '%s' "$separator"
    quoted "$word"
    separator=" "
  done
}

# Runs a command, or prints it for --dry_run. Nothing may ask questions or read this script's input.
call() {
  if [[ -n $dry_run ]]; then
    command_line "$@" >&3
    echo >&3
    return
  fi
  "$@" </dev/null
}

# --- Options ---------------------------------------------------------------------------------------------------------

name="" zone="" project="" topology="" accelerator_type="" runtime_version="" slices=1 spot="" setup="" poll=30 retries=3
delete_when_done="" dry_run="" worker=0 slice=0 lines=100 follow=""
create_flags=() ssh_flags=() run_flags=()
problems=""

problem() {
  problems+="  $1"$'\n'
}

# Parses one option; $1 has the form --option=value or --option.
read_option() {
  local value=${1#*=}
  case $1 in
    --name=*) name=$value ;;
    --zone=*) zone=$value ;;
    --project=*) project=$value ;;
    --topology=*) topology=$value ;;
    --accelerator_type=*) accelerator_type=$value ;;
    --runtime_version=*) runtime_version=$value ;;
    --slices=*) slices=$value ;;
    --setup=/*) setup=$value ;;
    --setup=*) setup=$started_in/$value ;;
    --poll=*) poll=$value ;;
    --retries=*) retries=$value ;;
    --worker=*) worker=$value ;;
    --slice=*) slice=$value ;;
    --lines=*) lines=$value ;;
    --create_flag=--*) create_flags+=("$value") ;;
    --ssh_flag=--*) ssh_flags+=("$value") ;;
    --spot) spot=yes ;;
    --follow) follow=follow ;;
    --delete_when_done) delete_when_done=yes ;;
    --dry_run) dry_run=yes ;;
    --config=* | --config.* | --workdir=* | --mode=*) problem "$1: flags of electra_jax.main come after a --" ;;
    --create_flag=* | --ssh_flag=*) problem "$1: expected a flag of gcloud's, for example ${1%%=*}=--internal-ip" ;;
    *) problem "$1: there is no such option (./launch/tpu_vm.sh help lists them; values are given with =)" ;;
  esac
}

is_natural() {
  case $1 in
    "" | *[!0-9]* | 0[0-9]*) return 1 ;;
    *) [[ ${#1} -le 6 ]] ;;
  esac
}

# Sets $accelerator_type, and $runtime_version unless it was given.
choose_type() {
  local generation extents chips=1 extent
  if [[ -n $topology && -n $accelerator_type ]]; then
    problem "--topology and --accelerator_type: give one of them"
    return
  elif [[ -n $topology ]]; then
    if ! [[ $topology =~ ^(v4|v5e|v5p|v6e):([1-9][0-9]*(x[1-9][0-9]*){1,2})$ ]]; then
      problem "--topology=$topology: expected v4, v5e, v5p or v6e with extents, for example v5e:4x4 or v4:2x2x4"
      return
    fi
    generation=${BASH_REMATCH[1]} extents=${BASH_REMATCH[2]}
    for extent in ${extents//x/ }; do
      chips=$((chips * extent))
    done
    # Google counts chips where a chip has one core, and cores where it has two.
    case $generation in
      v5e) accelerator_type=v5litepod-$chips ;;
      v6e) accelerator_type=v6e-$chips ;;
      *) accelerator_type=$generation-$((chips * 2)) ;;
    esac
  elif [[ -z $accelerator_type ]]; then
    problem "--topology is missing, for example --topology=v5e:4x4"
    return
  fi
  if [[ -z $runtime_version ]]; then
    case $accelerator_type in
      v5litepod-*) runtime_version=v2-alpha-tpuv5-lite ;;
      v5p-*) runtime_version=v2-alpha-tpuv5 ;;
      v6e-*) runtime_version=v2-alpha-tpuv6e ;;
      v2-* | v3-* | v4-*) runtime_version=tpu-ubuntu2204-base ;;
      *) problem "--accelerator_type=$accelerator_type: its image is not known here; give --runtime_version" ;;
    esac
  fi
}

# Checks an address in a flag of electra_jax.main as that would, but before TPUs are asked for. $2: protocols, as a pattern.
check_address() {
  local flag=$1 address=${1#*=}
  if ! [[ $address =~ ^($2):// ]]; then
    problem "$flag: expected a path on the workers or an address that begins with ${2//|/:// or }://"
  elif ! [[ $address =~ ^[a-z0-9]+://[A-Za-z0-9][A-Za-z0-9._-]*[A-Za-z0-9]/+[^/] ]]; then
    problem "$flag: expected a name within a bucket, as in gs://BUCKET/runs/NAME"
  elif [[ $flag == --workdir=* && $address == *[*?#[]* || $flag == --workdir=* && $address == *]* ]]; then
    problem "$flag: found one of * ? [ ] #, which tools of object stores take for a pattern; give another name"
  fi
}

check_run_flags() {
  local flag workdir="" config=""
  for flag in ${run_flags[@]+"${run_flags[@]}"}; do
    case $flag in
      --workdir=*) workdir=${flag#*=} ;;
      --config=*) config=yes ;;
    esac
    case $flag in
      --workdir=*://*) check_address "$flag" "gs" ;;
      --config.compile_cache=*://*) check_address "$flag" "gs|s3" ;;
      --config.data.directory=gs://*) check_address "$flag" "gs" ;;
    esac
  done
  if [[ -z $config || -z $workdir ]]; then
    problem "after a -- electra_jax.main needs --config=FILE and --workdir=DIR, for example
    ./launch/tpu_vm.sh $command --name=… --zone=… … -- --config=configs/base.py --workdir=gs://BUCKET/runs/base"
  elif [[ $workdir != /* && $workdir != *://* ]]; then
    say "--workdir=$workdir is relative: it will lie on each worker's own disk, which goes away with the TPUs. Checkpoints" \
      "of several workers, and of --spot TPUs, belong on storage that all workers share."
  fi
}

# All problems are reported together, before anything is done.
check_options() {
  local option
  case $command in
    train | create | sync | run | logs | status | stop | delete) ;;
    "") problem "no command; expected train, create, sync, run, logs, status, stop or delete" ;;
    *) problem "$command: there is no such command; expected train, create, sync, run, logs, status, stop or delete" ;;
  esac
  if [[ -z $name ]]; then
    problem "--name is missing, for example --name=electra-large"
  elif ! [[ $name =~ ^[a-z][-a-z0-9]{0,48}$ && $name != *- ]]; then
    problem "--name=$name: expected lower-case letters, digits and hyphens, at most 49, a letter first and no hyphen last"
  fi
  if [[ -z $zone ]]; then
    problem "--zone is missing, for example --zone=us-west4-a"
  elif ! [[ $zone =~ ^[a-z]+-[a-z]+[0-9]+-[a-z]$ ]]; then
    problem "--zone=$zone: expected a zone such as us-west4-a"
  fi
  for option in slices poll retries worker slice lines; do
    if ! is_natural "${!option}"; then
      problem "--$option=${!option}: expected a whole number"
    fi
  done
  if [[ $slices == 0 ]]; then
    problem "--slices=0: expected at least 1"
  fi
  if [[ -n $setup && ! -f $setup ]]; then
    problem "--setup=$setup: there is no such file"
  fi
  case $command in train | create) choose_type ;; esac
  case $command in
    train | run) check_run_flags ;;
    *) if [[ ${#run_flags[@]} -gt 0 ]]; then problem "$command takes no flags of electra_jax.main (after --)"; fi ;;
  esac
  case $command in
    train | sync)
      if ! git rev-parse --verify --quiet HEAD >/dev/null 2>&1; then
        problem "$PWD is not a git checkout with a commit; what is sent to the workers is a commit"
      fi
      ;;
  esac
  if [[ -z $dry_run ]] && ! command -v gcloud >/dev/null; then
    problem "gcloud is not on PATH: https://cloud.google.com/sdk/docs/install"
  fi
  if [[ -n $problems ]]; then
    fail 64 "launch/tpu_vm.sh:"$'\n'"${problems%$'\n'}"
  fi
}

# --- The queued resource ---------------------------------------------------------------------------------------------

# Location of the TPUs, for every call. --quiet: use defaults, do not prompt.
where() {
  place=(--zone="$zone" --quiet)
  if [[ -n $project ]]; then
    place+=(--project="$project")
  fi
}

# Sets $queue to the request's state, "" if there is none. Fails if gcloud fails.
look_at_queue() {
  local found
  # "list", since "describe" fails in the same way without such a request and without a network.
  found=$(call gcloud compute tpus queued-resources list "${place[@]}" \
    --filter="name~/$name\$" --format="value(state.state)") || return
  queue=$found
  if [[ -n $dry_run ]]; then
    queue=$assumed_queue
  fi
}

create() {
  local what=(--accelerator-type="$accelerator_type" --runtime-version="$runtime_version")
  look_at_queue || fail 1 "gcloud cannot list queued resources; its message is above."
  case $queue in
    "") ;;
    # Its TPUs are gone; the name must be freed before it can be requested again.
    FAILED | SUSPENDED | SUSPENDING | DELETING) delete ;;
    *)
      say "$name is there already: $queue"
      return
      ;;
  esac
  if [[ $slices == 1 ]]; then
    what+=(--node-id="$name")
  else
    what+=(--node-count="$slices" --node-prefix="$name")
  fi
  if [[ -n $spot ]]; then
    what+=(--spot)
  fi
  say "Asking for $slices × $accelerator_type in $zone"
  call gcloud compute tpus queued-resources create "$name" "${place[@]}" "${what[@]}" \
    ${create_flags[@]+"${create_flags[@]}"} || fail 1 "gcloud cannot create $name; its message is above."
  assumed_queue=ACTIVE
}

# Releases everything and waits until it is deleted, since the name is taken until then.
delete() {
  local shown=""
  while true; do
    if ! look_at_queue; then
      failed_look
    else
      case $queue in
        "")
          looked
          if [[ -z $shown ]]; then
            say "$name is not there: nothing to delete"
          fi
          return
          ;;
        SUSPENDING | DELETING) looked ;;
        *)
          say "Deleting $name"
          # --force: together with its TPUs.
          if call gcloud compute tpus queued-resources delete "$name" "${place[@]}" --force; then
            looked
          else
            say "gcloud cannot delete $name; its message is above. Until it is deleted, it costs money."
            failed_look
          fi
          assumed_queue=""
          ;;
      esac
      shown=$queue
    fi
    sleep "$poll"
  done
}

# Counts failed checks in a row: a lost connection recovers, revoked permissions do not.
failed_looks=0
failed_look() {
  failed_looks=$((failed_looks + 1))
  if [[ $failed_looks -ge $MAX_FAILED_LOOKS ]]; then
    fail 1 "$name cannot be reached after $failed_looks tries. Whatever runs there goes on; the same command watches again."
  fi
}
looked() {
  failed_looks=0
}

# Requests the TPUs and waits for them.
wait_until_active() {
  local failures=0 shown=""
  create
  while true; do
    if ! look_at_queue; then
      failed_look
      sleep "$poll"
      continue
    fi
    looked
    if [[ $queue != "$shown" ]]; then
      say "$name: ${queue:-not there}"
      shown=$queue
    fi
    case $queue in
      ACTIVE) return ;;
      "" | SUSPENDED | SUSPENDING | DELETING)
        create
        continue
        ;;
      FAILED)
        failures=$((failures + 1))
        call gcloud compute tpus queued-resources describe "$name" "${place[@]}" >&2 || true
        if [[ $failures -gt $retries ]]; then
          fail 1 "The request failed $failures times; the reason stands above under state."
        fi
        sleep "$poll"
        create
        continue
        ;;
    esac
    sleep "$poll"
  done
}

# Whether some of the TPUs are gone: the request may stay ACTIVE for a while after that.
is_preempted() {
  local node found
  for node in $(nodes); do
    found=$(call gcloud compute tpus tpu-vm describe "$node" "${place[@]}" --format="value(state)") || return 1
    case $found in
      PREEMPTED | TERMINATED | STOPPED | DELETING) return 0 ;;
    esac
  done
  return 1
}

# --- The workers -----------------------------------------------------------------------------------------------------

# Prints the slices' names, which Google numbers when there are several.
nodes() {
  local number
  if [[ $slices == 1 ]]; then
    echo "$name"
  else
    for ((number = 0; number < slices; number++)); do
      echo "$name-$number"
    done
  fi
}

# Runs gcloud compute tpus tpu-vm COMMAND… on all workers of all slices at once; @ stands for the slice's name.
# "queued-resources ssh --node=all" would do so too, but skips slices that are gone and still succeeds.
on_slices() {
  local node pids="" pid status=0
  for node in $(nodes); do
    if [[ -n $dry_run || $slices == 1 ]]; then
      call gcloud compute tpus tpu-vm "${@/#@/$node}" "${place[@]}" ${ssh_flags[@]+"${ssh_flags[@]}"} --worker=all ||
        status=$?
    else
      call gcloud compute tpus tpu-vm "${@/#@/$node}" "${place[@]}" ${ssh_flags[@]+"${ssh_flags[@]}"} --worker=all &
      pids+=" $!"
    fi
  done
  for pid in $pids; do
    wait "$pid" || status=$?
  done
  return "$status"
}

# Prints the command line that calls worker.sh, or reports that it is missing, as on new machines.
worker_line() {
  echo "if [ -f $WORKER ]; then bash $WORKER $1; else echo electra_jax new: absent, not installed; fi"
}

# Calls worker.sh on all workers.
on_workers() {
  on_slices ssh @ --command="$(worker_line "$1")"
}

# Makes a folder for the files that are sent and gcloud's messages; a dry run needs none.
folder=""
make_folder() {
  if [[ -z $folder && -z $dry_run ]]; then
    folder=$(mktemp -d) || return
    trap 'rm -rf "$folder"' EXIT
  fi
}

# Sets $states to one line per worker. Fails if a worker cannot be reached.
look_at_workers() {
  local output messages=/dev/null
  make_folder || return
  if [[ -n $folder ]]; then
    messages=$folder/messages
  fi
  # gcloud reports every connection to every worker, which matters only if one fails.
  if ! output=$(on_workers state 2>"$messages"); then
    cat "$messages" >&2
    return 1
  fi
  states=$(sed -n 's/^electra_jax [^:]*: //p' <<<"$output")
  if [[ -n $dry_run ]]; then
    states=$assumed_states
  fi
  [[ -n $states ]]
}

has_state() {
  grep -q "^$1" <<<"$states"
}

sync() {
  local archive changes files
  if ! look_at_workers; then
    say "The workers of $name cannot be reached; gcloud's message is above. Is it ACTIVE (status)?"
    return 1
  fi
  if has_state running; then
    say "A run is going on at $name; its code cannot be changed under it. First: stop"
    return 64
  fi
  changes=$(git status --porcelain)
  if [[ -n $changes ]]; then
    say "Not sent, since not committed:"$'\n'"$changes"
  fi
  make_folder || return
  archive=${folder:-/tmp}/electra_jax_code.tar.gz
  call git archive --format=tar.gz --output="$archive" HEAD || return
  files=("$archive")
  if [[ -n $setup ]]; then
    call cp -- "$setup" "${folder:-/tmp}/electra_jax_setup.sh" || return
    files+=("${folder:-/tmp}/electra_jax_setup.sh")
  fi
  say "Copying $(git rev-parse --short HEAD) to the workers and installing it there"
  if ! on_slices scp "${files[@]}" @:; then
    say "The code could not be copied; gcloud's message is above."
    return 1
  fi
  # Only files of an earlier commit are removed: .venv, data and runs next to them stay.
  if ! on_slices ssh @ --command="set -e; mkdir -p electra_jax/code; rm -f electra_jax/setup.sh; \
if [ -f electra_jax_setup.sh ]; then mv electra_jax_setup.sh electra_jax/setup.sh; fi; cd electra_jax/code; \
if [ -f ../files ]; then xargs -d '\\n' rm -f <../files; fi; tar -tzf ~/electra_jax_code.tar.gz | grep -v '/\$' >../files; \
tar -xzf ~/electra_jax_code.tar.gz; cd; bash $WORKER install"; then
    say "Installing failed on at least one worker; its message is above. The same command tries again."
    return 1
  fi
}

# Starts the run; $1: the command of worker.sh, "compare" to start nothing.
run() {
  local output
  if ! output=$(on_workers "${1:-start} $(command_line "${run_flags[@]}")"); then
    say "The run could not be started on all workers; gcloud's message is above."
    return 1
  fi
  if [[ -z $dry_run ]]; then
    sed -n 's/^electra_jax //p' <<<"$output" >&2
  fi
  assumed_states="exit 0"
  case $output in
    *"not installed"*) fail 64 "Nothing is installed on $name. First: sync" ;;
    *": occupied by a run"*) fail 64 "Another run is going on at $name. First: stop" ;;
  esac
}

# Stops the run for a restart; unlike after "stop", it is then resumed without another command.
stop_the_rest() {
  on_workers "stop again" >&2 || true
}

stop() {
  on_workers stop || fail 1 "The run could not be stopped on all workers; gcloud's message is above."
}

logs() {
  local node=$name
  if [[ $slices -gt 1 ]]; then
    node+=-$slice
  fi
  call gcloud compute tpus tpu-vm ssh "$node" "${place[@]}" ${ssh_flags[@]+"${ssh_flags[@]}"} --worker="$worker" \
    --command="$(worker_line "logs $lines${follow:+ follow}")"
}

status() {
  look_at_queue || fail 1 "gcloud cannot list queued resources; its message is above."
  echo "$name: ${queue:-not there}"
  if [[ $queue == ACTIVE ]]; then
    on_workers state || fail 1 "The workers could not all be asked; gcloud's message is above."
  elif [[ -n $queue ]]; then
    call gcloud compute tpus queued-resources describe "$name" "${place[@]}"
  fi
}

# Waits until the run has ended on all workers. Sets $outcome: its exit code, "gone" (the TPUs are), "lost" (the run is),
# or "stopped" (by the user).
watch() {
  local late=0 shown="" code
  outcome=""
  while [[ -z $outcome ]]; do
    if ! look_at_workers; then
      if look_at_queue && { [[ $queue != ACTIVE ]] || is_preempted; }; then
        say "$name: ${queue:-deleted}; its TPUs are gone"
        outcome=gone
        return
      fi
      failed_look
      sleep "$poll"
      continue
    fi
    looked
    if [[ $states != "$shown" ]]; then
      say "$name: $(sort <<<"$states" | uniq -c | sed 's/^ *//; s/ / × /' | tr '\n' ';')"
      shown=$states
    fi
    if has_state running; then
      # Workers end one after another, but soon: one that waits for others that are gone is stopped.
      late=$((late + 1))
      if ! grep -qv '^running' <<<"$states"; then
        late=0
      elif [[ $late -gt $MAX_LATE_LOOKS ]]; then
        say "Some workers have ended and others go on: stopping them"
        stop_the_rest
        late=0
      fi
      sleep "$poll"
      continue
    fi
    # Codes that must not be retried come first: the codes of other workers follow from them.
    for code in 64 76 77; do
      if has_state "exit $code"; then
        outcome=$code
        return
      fi
    done
    if ! grep -qv '^exit 0' <<<"$states"; then
      outcome=0
    elif grep -q 'stopped by you' <<<"$states"; then
      outcome=stopped
    elif has_state 'exit 75'; then
      outcome=75
    elif has_state lost || has_state absent; then
      outcome=lost
    else
      outcome=$(sed -n 's/^exit \([1-9][0-9]*\).*/\1/p' <<<"$states" | head -n 1)
    fi
  done
}

# Makes sure that the run is running on existing TPUs. If this fails, the caller retries.
bring_up() {
  look_at_workers || return
  if has_state running && ! grep -qv '^running' <<<"$states"; then
    say "A run is going on at $name: watching it"
    run compare
    return
  fi
  if has_state running; then
    stop_the_rest
  fi
  sync && run
}

train() {
  local failures=0
  trap 'say "Nobody watches now. What runs at $name goes on; the same command watches again."; exit 130' INT TERM HUP
  while true; do
    wait_until_active
    if bring_up; then
      watch
    elif look_at_queue && { [[ $queue != ACTIVE ]] || is_preempted; }; then
      outcome=gone
    else
      outcome="no start"
    fi
    case $outcome in
      0)
        say "Done."
        if [[ -n $delete_when_done ]]; then
          delete
        else
          say "The TPUs are still there, and cost money. To give them back:" \
            "./launch/tpu_vm.sh delete --name=$name --zone=$zone${project:+ --project=$project}"
        fi
        return
        ;;
      64 | 76 | 77)
        logs >&2 || true
        fail "$outcome" "The run ended with exit code $outcome, which another try would not change."
        ;;
      stopped) fail 75 "The run was stopped; the same command goes on from the state that it saved." ;;
      gone)
        failures=0
        if look_at_queue && [[ $queue == ACTIVE ]]; then
          delete  # Its TPUs are gone, and the request does not get new ones.
        fi
        ;;
      75) failures=0 ;;
      *)
        logs >&2 || true
        failures=$((failures + 1))
        if [[ $failures -gt $retries ]]; then
          case $outcome in
            *[!0-9]*) outcome=1 ;;
          esac
          fail "$outcome" "The run failed $failures times in a row; the last lines of its log are above."
        fi
        say "Failed ($outcome); trying again ($failures of $retries)"
        ;;
    esac
    say "Starting again, from the state that was saved last"
    sleep "$poll"
  done
}

# --- Start -----------------------------------------------------------------------------------------------------------

command=${1:-}
case $command in
  help | --help | -h)
    sed -n '2,/^set -/s/^# \{0,1\}//p' "launch/tpu_vm.sh"
    exit
    ;;
  --*) command="" ;;
  *) [[ $# -eq 0 ]] || shift ;;
esac
while [[ $# -gt 0 ]]; do
  if [[ $1 == -- ]]; then
    shift
    run_flags=(${@+"$@"})
    break
  fi
  read_option "$1"
  shift
done
check_options
where
# --dry_run assumes that every command succeeds.
assumed_queue=ACTIVE assumed_states=absent
case $command in create | train) assumed_queue="" ;; esac
if [[ -n $dry_run ]]; then
  poll=0
fi
exec 3>&1
"$command"
