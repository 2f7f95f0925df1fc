/** A line that is typed once as `podman …` and once as `iso …`. */
export interface Line {
  /** What is typed, by docker's name. */
  line: string;
  /** What is done before, in the same state. Nothing of it is compared. */
  before?: string;
  /** Why the two differ, where that is meant. */
  differs?: string;
}

const running = 'docker run -d --name a box sleep 100';
const served = 'docker run -d --name a box serve; ready a';
const ended = 'docker run --name a box sh -c "echo one; echo two; exit 3" || :';
const created = 'docker create --name a -l of=me box echo made';

const codes = 'podman has codes of its own where docker has 1; what is wrong in iso’s own view is 125';
const columns = 'as docker: the newest first, images as they were typed, commands quoted and cut at twenty characters';

/** Of processes: what they are given, and how they end. */
const processes: readonly Line[] = [
  { line: 'docker run --rm box echo hello world' },
  { line: "docker run --rm box sh -c 'echo out; echo err >&2; exit 3'" },
  { line: 'docker run --rm box false' },
  { line: "docker run box sh -c 'echo kept; exit 143'" },
  { line: 'docker run --rm box /nope' },
  { line: 'docker run --rm box /etc/passwd' },
  { line: 'docker run --rm box /etc' },
  { line: "docker run --rm -e A=1 -e B='two words' box sh -c 'echo $A $B'" },
  { line: "A=here docker run --rm -e A box sh -c 'echo $A'" },
  { line: "docker run --rm --env-file vars box sh -c 'echo $X+$Y+$Z'" },
  { line: "docker run --rm --env-file vars -e X=late box sh -c 'echo $X+$Y'" },
  { line: "docker run --rm box sh -c 'echo $HOME $PATH'" },
  { line: 'docker run --rm -w /tmp box pwd' },
  { line: 'docker run --rm -u me box id' },
  { line: 'docker run --rm -u 1000:50 box id' },
  { line: 'docker run --rm -u 4242 box id -u' },
  { line: 'docker run --rm -u stranger box id', differs: 'as docker: 126 is for commands, and this is no command' },
  { line: 'docker run --rm -u me --group-add staff box id -G' },
  { line: 'docker run --rm -h there box hostname' },
  { line: 'docker run --rm --hostname there box hostname' },
  { line: "printf 'a\\nb\\n' | docker run --rm -i box wc -l" },
  { line: 'echo lost | docker run --rm box wc -c' },
  {
    // Its own input lasts: where that ends it types something.
    line: `sleep 20 | script -qec "docker run --rm -it box sh -c 'test -t 1 && tty; sleep 1; exit 5'" /dev/null`,
  },
  { line: 'docker run --rm --entrypoint echo box one two' },
  { line: "docker run --rm --init box sh -c 'test $$ -ne 1 && echo not the first; exit 9'" },
  { line: 'docker run -d box true' },
  { line: 'docker run --rm --cidfile id box true && wc -c <id' },
];

/** Of what holds a container in. */
const confinement: readonly Line[] = [
  { line: 'docker run --rm --read-only box touch /file' },
  { line: "docker run --rm --read-only --tmpfs /scratch box sh -c 'touch /scratch/file && ls /scratch'" },
  { line: "docker run --rm --tmpfs /scratch:size=1m box sh -c 'grep /scratch /proc/mounts | grep -o size=1024k'" },
  { line: 'docker run --rm -v $PWD/data:/mnt box cat /mnt/file' },
  { line: 'docker run --rm -v $PWD/data:/mnt:ro box touch /mnt/new' },
  { line: "docker run --rm -v $PWD/data:/mnt box sh -c 'echo new >/mnt/new'; cat data/new" },
  { line: 'docker run --rm -v $PWD/data/file:/etc/motd:ro box cat /etc/motd' },
  { line: "docker run --rm --pids-limit 20 box sh -c 'for i in $(seq 30); do sleep 1 & done; echo all of them'" },
  { line: 'docker run --name a --memory 32m box true; docker inspect --format {{.HostConfig.Memory}} a' },
  { line: "docker run --rm --ulimit nofile=100:200 --ulimit nproc=900:900 box sh -c 'ulimit -Sn; ulimit -Hn'" },
  { line: 'docker run --rm --cap-drop ALL box grep CapEff /proc/self/status' },
  { line: 'docker run --rm --cap-drop ALL --cap-add CHOWN box grep CapEff /proc/self/status' },
  { line: 'docker run --rm --cap-drop CHOWN box chown 1 /etc/motd' },
  { line: 'docker run --rm --security-opt no-new-privileges box grep NoNewPrivs /proc/self/status' },
  { line: 'docker run --rm --security-opt seccomp=unconfined box grep -w Seccomp /proc/self/status' },
  { line: 'docker run --rm --sysctl kernel.msgmax=1234 box cat /proc/sys/kernel/msgmax' },
  { line: "docker run --rm --shm-size 1m box sh -c 'grep /dev/shm /proc/mounts | grep -o size=1024k'" },
  { line: 'docker run --rm --network none box ls /sys/class/net' },
];

/** Of how a container lives. */
const life: readonly Line[] = [
  { line: created },
  { before: created, line: 'docker start -a a' },
  { before: created, line: 'docker start a' },
  { before: ended, line: 'docker start -a a' },
  { before: running, line: 'docker start a', differs: 'as docker: it is named also where it runs already' },
  { before: running, line: 'docker stop -t 0 a && docker wait a' },
  { before: served, line: 'docker stop a && docker wait a' },
  { before: running, line: 'docker kill a && docker wait a' },
  { before: served, line: 'docker kill -s TERM a && docker wait a' },
  { before: ended, line: 'docker kill a' },
  { before: ended, line: 'docker stop a' },
  { before: running, line: 'docker restart -t 0 a && docker ps --format {{.Names}}' },
  { before: ended, line: 'docker rm a && docker ps -aq' },
  { before: running, line: 'docker rm a', differs: codes },
  { before: 'docker run -d --stop-timeout 0 --name a box sleep 100', line: 'docker rm -f a && docker ps -aq' },
  { before: ended, line: 'docker rename a b && docker ps -a --format {{.Names}}' },
  { before: running, line: 'docker pause a && docker inspect -f {{.State.Status}} a' },
  { before: `${running}; docker pause a`, line: 'docker unpause a && docker inspect -f {{.State.Status}} a' },
  { before: `${running}; docker pause a`, line: 'docker exec a true', differs: codes },
  { before: running, line: 'docker exec -e A=1 a sh -c "echo \\$A; exit 7"' },
  { before: running, line: 'docker exec -w /tmp -u me a sh -c "pwd; id -un"' },
  { before: running, line: 'echo in | docker exec -i a cat' },
  { before: running, line: 'docker exec a /nope' },
  { before: running, line: 'docker exec a /etc/passwd' },
  { before: ended, line: 'docker exec a true', differs: codes },
];

/** Of what is known of a container. */
const looks: readonly Line[] = [
  { before: ended, line: 'docker ps -q' },
  { before: ended, line: 'docker ps -aq' },
  {
    before: `${ended}; ${running.replace('name a', 'name b')}`,
    line: "docker ps -a --format '{{.Names}} {{.Image}}'",
    differs: columns,
  },
  { before: ended, line: 'docker ps -a --filter status=exited --filter name=a --format {{.Names}}' },
  { before: created, line: "docker ps -a --filter label=of=me --format 'table {{.Names}}\\t{{.Status}}'" },
  { before: ended, line: 'docker ps -a --filter exited=3', differs: columns },
  { before: ended, line: 'docker logs a' },
  { before: ended, line: 'docker logs --tail 1 a' },
  { before: "docker run -d --name a box sh -c 'echo one; sleep 1; echo two'", line: 'docker logs -f a' },
  { before: ended, line: "docker inspect --format '{{.State.Status}} {{.State.ExitCode}} {{.State.Running}}' a" },
  { before: created, line: "docker inspect --format '{{.Name}}' a", differs: 'as docker: names begin with a slash' },
  { before: created, line: `docker inspect -f '{{json .Config.Cmd}} {{index .Config.Labels "of"}}' a` },
  { before: running, line: "docker top a -eo pid,args | grep -o 'sleep 100'" },
  { before: running, line: 'docker port a' },
  { before: 'docker run --name a box sh -c "echo x >/tmp/new; rm /etc/motd"', line: 'docker diff a | sort' },
];

/** Of images and files. */
const files: readonly Line[] = [
  { line: "docker images --format '{{.Repository}} {{.Tag}}'" },
  { line: 'docker tag box other:2 && docker images -q other:2' },
  { before: 'docker tag box other:2', line: 'docker rmi other:2' },
  { before: ended, line: 'docker rmi box', differs: codes },
  { line: 'docker history -q box' },
  {
    before: 'docker run --name a box sh -c "echo x >/new"',
    line: 'docker commit a made && docker run --rm made cat /new',
  },
  { line: 'docker save -o saved.tar box && tar -tf saved.tar | grep -c manifest.json' },
  {
    before: 'docker save -o saved.tar box; docker rmi box',
    line: 'docker load -i saved.tar && docker run --rm box true',
  },
  { line: 'docker import root.tar two:2 && docker run --rm two:2 true' },
  { before: created, line: 'docker cp data/file a:/tmp/file && docker cp a:/tmp/file back && cat back' },
  { before: created, line: 'docker export a | tar -xO etc/motd' },
];

/** What is wrong. */
const mistakes: readonly Line[] = [
  { line: 'docker run --nope box true' },
  { line: 'docker run --pull never nowhere true' },
  { before: created, line: 'docker run --name a box true' },
  { line: 'docker stop nobody' },
];

/** A hundred of them. */
export const lines = { processes, confinement, life, looks, files, mistakes };
