# What is particular to a batch system, for `submit` and `status`. Here: Grid Engine. Others: docs/engines.md.
# A site names its own: the parallel environment (`qconf -spl`), the resource that counts GPUs (`qconf -sc`).

job_id='$JOB_ID' # a job's id, as the job itself sees it

# The script on stdin becomes a job; prints its id. $memory counts for the whole job, or where a site makes
# mem_free consumable for each slot: then divide it by $threads.
enqueue() {
    local gpus=()
    if ((gpu)); then gpus=(-l "gpu=$gpu"); fi
    qsub -terse -V -cwd -S /bin/bash -r n -j y -o "$logs" -N "$name" -pe smp "$threads" \
        -l "mem_free=${mem_mb}M" -l "h_rt=$((60 * minutes))" "${gpus[@]}"
}

# Ids of this user's jobs that wait or run, one a line; fails where the batch system does not answer.
# A job that could not be started (state E) waits for ever, so it does not count.
queued() {
    qstat -u "$(id -un)" | awk 'NR > 2 && $5 !~ /E/ {print $1}'
}
