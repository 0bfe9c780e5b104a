#!/usr/bin/env python3
"""A guest: a small Linux machine under qemu that runs one command, and whose power can be cut.

It is there for what a host does not give: a million open files in one process, and a disk that forgets. The processor is
emulated, 10 to 25 times slower than the host, so memory, counts and correctness are measured in it, never time.

The kernel is Debian's, unpacked into the user's cache folder, never installed; the root file system is made here of
busybox, the files asked for, and the shared libraries these need. The command's input and output are this machine's own,
so the guest is a program like any other. It has no network but its loopback, and the ports that are forwarded to it.

The disk, mounted on /data, has a volatile cache: a write is safe only once the guest has flushed it. qemu's blklogwrites
notes every write and flush in the order in which they were done, before the guest hears that they are; after a cut the
image is made anew of what it held at the boot and of these notes: all that was flushed, and of the rest nothing, or
whatever chance keeps, as a real disk may.

    loadtest/vm/guest.py [--add FILE[:PLACE]] [--memory 1G] [--disk FILE] [--out DIR] ... -- COMMAND [ARG...]
"""
import argparse, ctypes, lzma, os, random, re, shlex, shutil, signal, stat, struct, subprocess, sys, tarfile, tempfile, time
from pathlib import Path

TOOLS = {"qemu-system-x86_64": "qemu-system-x86", "busybox": "busybox-static", "mke2fs": "e2fsprogs"}
KERNELS = ["linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64"]      # the first that this Debian has
MODULES = ["virtio_blk", "failover", "net_failover", "virtio_net"]         # in this order, where they are not built in
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "towncrier-guest"
ADDRESS = "10.0.2.15"                                                      # what qemu's own network gives its guest

INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/job:/bin:/sbin HOME=/root
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp
for module in MODULES; do [ -e /lib/$module.ko ] && insmod /lib/$module.ko; done
ip link set lo up; ip addr add ADDRESS/24 dev eth0 2>/dev/null && ip link set eth0 up
for n in $(seq 200); do [ -e /dev/vport0p3 ] && break; sleep 0.05; done
set -- $(grep MemTotal /proc/meminfo); pages=$(($2 / 4))
for setting in fs.nr_open=2000000 fs.file-max=4000000 net.core.somaxconn=65535 net.ipv4.tcp_max_syn_backlog=65535 \\
    "net.ipv4.ip_local_port_range=1024 65535" "net.ipv4.tcp_mem=$((pages / 2)) $((pages * 3 / 4)) $pages" SYSCTLS; do
  echo "${setting#*=}" >/proc/sys/$(echo "${setting%%=*}" | tr . /)
done
ulimit -n 1900000
[ ! -e /dev/vda ] || mount -t ext4 -o "noatime,MOUNT" /dev/vda /data || poweroff -f
cd /job
sh /command <>/dev/vport0p1 >&0 2>/dev/vport0p2
echo $? >/out/.code
[ ! -e /dev/vda ] || { cd /; umount /data || { sync; mount -o remount,ro /data; }; }
tar -C /out -cf /dev/vport0p3 .
poweroff -f
"""


# Whoever is told to end takes its guests along.
signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


class Failed(Exception):
    """Something that whoever started this can act on."""


def tool(name):
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def install():
    """Sees to it that qemu, busybox, mke2fs and a kernel are there. Installs what is missing with apt-get."""
    def run(*command, **options):
        print("guest: " + " ".join(command), file=sys.stderr, flush=True)
        if subprocess.run(command, stdout=sys.stderr, **options).returncode:
            raise Failed(f"'{' '.join(command)}' failed; it says above why")

    if not all(map(tool, TOOLS)):
        run("apt-get", "update", "-q")
        run("apt-get", "install", "-q", "-y", "--no-install-recommends", *TOOLS.values())
    if (CACHE / "vmlinuz").exists():
        return
    asked = subprocess.run(["apt-cache", "depends", *KERNELS], capture_output=True, text=True).stdout
    found = re.search(r"Depends: (linux-image-\S+)", asked)
    if not found:
        raise Failed("apt knows none of " + ", ".join(KERNELS) + ": 'apt-get update' may help")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        run("apt-get", "download", "-q", found[1], cwd=folder)
        run("dpkg-deb", "-x", str(next(Path(folder).glob("*.deb"))), folder)
        for module in MODULES:
            for path in Path(folder).rglob(f"{module}.ko*"):
                data = path.read_bytes()
                (CACHE / f"{module}.ko").write_bytes(lzma.decompress(data) if path.suffix == ".xz" else data)
        shutil.copy(next(Path(folder).glob("boot/vmlinuz-*")), CACHE / "vmlinuz.new")
    (CACHE / "vmlinuz.new").rename(CACHE / "vmlinuz")                      # last: it says that all is there


class Files:
    """The root file system, as the kernel wants it: a cpio archive of the form newc."""

    def __init__(self, file):
        self.file, self.names = file, set()

    def put(self, name, mode, data=b""):
        name = name.strip("/")
        if name in self.names:
            return
        if os.path.dirname(name):
            self.put(os.path.dirname(name), stat.S_IFDIR | 0o755)
        self.names.add(name)
        raw = name.encode() + b"\0"
        numbers = len(self.names), mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0
        head = b"070701" + b"".join(b"%08X" % number for number in numbers) + raw
        self.file.write(head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4))

    def put_file(self, source, name):
        """With the shared libraries that a program needs."""
        data = Path(source).read_bytes()
        self.put(name, stat.S_IFREG | 0o755, data)
        if data[:4] == b"\x7fELF":
            listed = subprocess.run(["ldd", source], capture_output=True, text=True).stdout
            for library in re.findall(r"(/\S+) \(0x", listed):
                self.put(library, stat.S_IFREG | 0o755, Path(library).read_bytes())


class Guest:
    """A running guest. As a context it is gone at the end, whatever happens.

    `add` names files as FILE or FILE:PLACE (else /job/NAME); `disk` is made where it is not there; `ports` maps ports of
    this machine's loopback to the guest's; `out` is where the guest's /out goes when the command has ended."""

    def __init__(self, command, add=(), memory="1G", cpus=2, sysctls=(), disk=None, disk_size="256M", mount="defaults",
                 ports=None, out=None, stdout=None):
        install()
        self.disk, self.out = disk, out
        self.folder = tempfile.TemporaryDirectory(prefix="guest.", dir=disk and os.path.dirname(os.path.abspath(disk)))
        if disk and not os.path.exists(disk):
            subprocess.run([tool("mke2fs"), "-q", "-t", "ext4", disk, disk_size], check=True, stdout=subprocess.DEVNULL)
        self.pack(command, add, sysctls, mount)
        self.qemu = self.start(memory, cpus, ports or {}, stdout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.qemu.kill()
        self.qemu.wait()
        self.folder.cleanup()

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def pack(self, command, add, sysctls, mount):
        init = INIT.replace("MODULES", " ".join(MODULES)).replace("ADDRESS", ADDRESS).replace("MOUNT", mount)
        init = init.replace("SYSCTLS", " ".join(map(shlex.quote, sysctls)))
        with open(self.path("initrd"), "wb") as file:
            files = Files(file)
            for folder in "bin dev proc sys tmp root job out data lib".split():
                files.put(folder, stat.S_IFDIR | 0o755)
            files.put_file(tool("busybox"), "bin/busybox")
            files.put("init", stat.S_IFREG | 0o755, init.encode())
            files.put("command", stat.S_IFREG | 0o755, command.encode() + b"\n")
            for module in CACHE.glob("*.ko"):
                files.put_file(module, f"lib/{module.name}")
            for source, _, place in (str(one).partition(":") for one in add):
                files.put_file(source, place or f"job/{os.path.basename(source)}")
            files.put("TRAILER!!!", 0)

    def start(self, memory, cpus, ports, stdout):
        forward = "".join(f",hostfwd=tcp:127.0.0.1:{here}-{ADDRESS}:{there}" for here, there in ports.items())
        command = [
            tool("qemu-system-x86_64"), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-M", "q35",
            "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,la57=off", "-smp", str(cpus), "-m", memory,
            "-kernel", str(CACHE / "vmlinuz"), "-initrd", self.path("initrd"),
            "-append", "console=ttyS0 quiet panic=-1 mitigations=off nokaslr tsc=reliable no_timer_check nowatchdog",
            "-serial", "file:" + self.path("kernel.log"), "-device", "virtio-serial-pci",
            "-chardev", "stdio,id=talk,signal=off", "-device", "virtserialport,chardev=talk,nr=1",
            "-chardev", "file,id=errors,path=/dev/stderr,append=on", "-device", "virtserialport,chardev=errors,nr=2",
            "-chardev", "file,id=out,path=" + self.path("out.tar"), "-device", "virtserialport,chardev=out,nr=3"]
        if ports:
            command += ["-netdev", "user,id=net,restrict=on" + forward, "-device", "virtio-net-pci,netdev=net,romfile="]
        if self.disk:
            shutil.copyfile(self.disk, self.path("disk"))
            Path(self.path("notes")).touch()
            command += [
                "-blockdev", "file,node-name=under,cache.no-flush=on,filename=" + self.path("disk"),
                "-blockdev", "file,node-name=notes,cache.no-flush=on,filename=" + self.path("notes"),
                "-blockdev", "blklogwrites,node-name=disk,file=under,log=notes",
                "-device", "virtio-blk-pci,drive=disk,write-cache=on,discard=off,write-zeroes=off"]
        # The input stays open: at its end qemu would take the output's reader for gone, too.
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=stdout, text=True, bufsize=1,
                                preexec_fn=die_with_parent)

    def say(self, line):
        """A line for the command to read."""
        self.qemu.stdin.write(line + "\n")

    def wait(self, timeout=None):
        """Waits until the command has ended by itself. Returns its exit code."""
        self.qemu.wait(timeout)
        try:
            with tarfile.open(self.path("out.tar")) as files:
                code = int(files.extractfile("./.code").read())
                if self.out:
                    files.extractall(self.out, [file for file in files if file.name != "./.code"], filter="data")
        except (tarfile.TarError, KeyError):
            said = Path(self.path("kernel.log")).read_text(errors="replace")[-2000:]
            raise Failed(f"the guest ended without its command's exit code; its kernel says:\n{said}") from None
        if self.disk:
            os.replace(self.path("disk"), self.disk)
        return code

    def cut(self, kept=0.0, chance=random):
        """Cuts the power now. Each write that was not flushed is kept with the likelihood `kept`, else lost. Returns how
        many had been flushed, and how many of the others were kept and lost."""
        self.qemu.kill()
        self.qemu.wait()
        return replay(self.path("notes"), self.disk, kept, chance)


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)                             # PR_SET_PDEATHSIG


def replay(notes, image, kept, chance):
    """The notes have the form of Linux' dm-log-writes: a head in the first sector; then for each request a sector that
    says what it is, and the data, if it brings any."""
    with open(notes, "rb") as log, open(image, "r+b") as disk:
        _, _, noted, sector = struct.unpack("<QQQI", log.read(28))
        done, pending, at = 0, [], sector

        def write(place, size, source):
            log.seek(source)
            disk.seek(place)
            disk.write(log.read(size))

        flushed = 0
        while True:
            log.seek(at)
            head = log.read(32)
            place, sectors, flags, _ = struct.unpack("<QQQQ", head.ljust(32, b"\0"))
            if not sectors and not flags:                                  # the end
                break
            if flags & 1:                                                  # a flush
                for one in pending:
                    write(*one)
                flushed, pending = flushed + len(pending), []
            if sectors:
                pending.append((place * sector, sectors * sector, at + sector))
            at, done = at + sector + sectors * sector, done + 1
        # The head is written with each flush. Were a note missing before that, what follows it could not be read.
        if done < noted:
            raise Failed(f"the cut fell into qemu's own writing: {done} of {noted} notes can be read. Run it again")
        survivors = [one for one in pending if chance.random() < kept]
        for one in survivors:
            write(*one)
        return flushed, len(survivors), len(pending) - len(survivors)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    option = parser.add_argument
    option("--add", action="append", default=[], metavar="FILE[:PLACE]", help="a file for the guest; else in /job, its PATH")
    option("--memory", default="1G")
    option("--cpus", type=int, default=2)
    option("--sysctl", action="append", default=[], metavar="NAME=VALUE")
    option("--disk", metavar="FILE", help="an ext4 image for /data, made where it is not there, and kept")
    option("--disk-size", default="256M")
    option("--out", metavar="DIR", help="where the guest's /out goes")
    option("--cut-after", type=float, metavar="SECONDS", help="cut the power so long after the boot; exit code 137")
    option("command", nargs="+")
    given = parser.parse_args()
    command = given.command[0] if len(given.command) == 1 else shlex.join(given.command)
    with Guest(command, given.add, given.memory, given.cpus, given.sysctl, given.disk, given.disk_size,
               out=given.out) as guest:
        if given.cut_after is None:
            return guest.wait()
        time.sleep(given.cut_after)
        guest.cut()
        return 137


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as failure:
        sys.exit(f"guest: {failure}")
