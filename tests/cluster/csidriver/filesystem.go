package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// command runs a program; its error has what the program said.
func command(name string, arguments ...string) (string, error) {
	output, err := exec.Command(name, arguments...).CombinedOutput()
	said := strings.Join(strings.Fields(string(output)), " ") // one line, for the log
	if err != nil {
		const enough = 400 // some programs explain all their options
		return said, fmt.Errorf("%s %s: %w: %.*s", name, strings.Join(arguments, " "), err, enough, said)
	}
	return said, nil
}

// content is the type of file system on a device, or empty for a device without any.
func content(device string) (string, error) {
	found, err := command("blkid", "-p", "-s", "TYPE", "-s", "PTTYPE", "-o", "export", device)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 2 {
		return "", nil // nothing found
	}
	if err != nil {
		return "", err
	}
	for _, line := range strings.Fields(found) {
		if kind, ok := strings.CutPrefix(line, "TYPE="); ok {
			return kind, nil
		}
	}
	return "", status.Errorf(codes.FailedPrecondition, "%s holds no file system but other data: %s", device, found)
}

// format makes a file system on an empty device; what it holds already stays.
func format(device, kind string) error {
	found, err := content(device)
	if err != nil {
		return err
	}
	switch {
	case found == "" && kind == "xfs":
		_, err = command("mkfs.xfs", "-q", "-f", device)
	case found == "":
		// Not lazily: the kernel would write to an idle volume for minutes.
		_, err = command("mkfs.ext4", "-q", "-F", "-m0", "-E", "lazy_itable_init=0,lazy_journal_init=0", device)
	case found != kind:
		err = status.Errorf(codes.FailedPrecondition, "%s holds %s, not the wanted %s", device, found, kind)
	}
	return err
}

// numberOf is the device number of a block device.
func numberOf(device string) (uint64, error) {
	info, err := os.Stat(device)
	if err != nil {
		return 0, err
	}
	return info.Sys().(*syscall.Stat_t).Rdev, nil
}

// mounts returns what is mounted at exactly this path, the topmost last.
func mounts(path string) ([]*mountinfo.Info, error) {
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) { return m.Mountpoint != real, false })
}

// shows says whether the topmost mount at a path is the device's file system, or the device itself; with
// others there, it is an error.
func shows(path, device string, block bool) (bool, error) {
	found, err := mounts(path)
	if err != nil || len(found) == 0 {
		return false, err
	}
	number, err := numberOf(device)
	if err != nil {
		return false, err
	}
	top := found[len(found)-1]
	there := unix.Mkdev(uint32(top.Major), uint32(top.Minor))
	if block {
		if there, err = numberOf(path); err != nil {
			return false, err
		}
	}
	if there != number {
		return false, status.Errorf(codes.Internal, "%s has %s mounted, not %s", path, top.Source, device)
	}
	return true, nil
}

// mountDevice mounts with the flags given and no other.
func mountDevice(device, path, kind string, flags []string) error {
	arguments := []string{"-t", kind}
	if len(flags) > 0 {
		arguments = append(arguments, "-o", strings.Join(flags, ","))
	}
	_, err := command("mount", append(arguments, device, path)...)
	return err
}

// bind shows a directory or a device at another path.
func bind(from, to string, readonly bool) error {
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return &os.PathError{Op: "bind " + from + " to", Path: to, Err: err}
	}
	if !readonly {
		return nil
	}
	err := unix.Mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
	if err != nil {
		err = errors.Join(&os.PathError{Op: "make read-only", Path: to, Err: err}, unix.Unmount(to, 0))
	}
	return err
}

// unmount takes away all that is mounted at a path; none is fine.
func unmount(path string) error {
	found, err := mounts(path)
	for range found {
		if err := unix.Unmount(path, 0); err != nil {
			return &os.PathError{Op: "unmount", Path: path, Err: err}
		}
	}
	return err
}

// fileSystemSize reads a superblock: bytes, and 0 for a file system that cannot be grown here.
func fileSystemSize(device string) (int64, error) {
	file, err := os.Open(device)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	block := make([]byte, 4096)
	if _, err := file.ReadAt(block, 0); err != nil {
		return 0, err
	}
	if string(block[:4]) == "XFSB" {
		return int64(binary.BigEndian.Uint32(block[4:])) * int64(binary.BigEndian.Uint64(block[8:])), nil
	}
	const has64bit = 0x80
	super := block[1024:]
	if binary.LittleEndian.Uint16(super[0x38:]) != 0xEF53 {
		return 0, nil
	}
	blocks := uint64(binary.LittleEndian.Uint32(super[4:]))
	if binary.LittleEndian.Uint32(super[0x60:])&has64bit != 0 {
		blocks |= uint64(binary.LittleEndian.Uint32(super[0x150:])) << 32
	}
	return int64(blocks) << (10 + binary.LittleEndian.Uint32(super[0x18:])), nil
}

func deviceSize(device string) (int64, error) {
	file, err := os.Open(device)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	return file.Seek(0, 2)
}

// smaller says whether a file system leaves a mebibyte or more of its device unused (less is left at the end
// by some that fill it).
func smaller(device string) (bool, error) {
	size, err := fileSystemSize(device)
	if err != nil || size == 0 {
		return false, err
	}
	whole, err := deviceSize(device)
	return whole-size >= mebibyte, err
}

// growUnmounted makes an ext4 as large as its device. When it is staged this is the way, because growing it
// mounted takes CAP_SYS_RESOURCE, which not every machine for tests gives.
func growUnmounted(device string) error {
	if needed, err := smaller(device); err != nil || !needed {
		return err
	}
	// resize2fs wants it checked; this also replays the journal of a crash-consistent image.
	_, err := command("e2fsck", "-f", "-p", device)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		err = nil // something was corrected
	}
	if err == nil {
		_, err = command("resize2fs", device)
	}
	return err
}

// growMounted makes a mounted file system as large as its device.
func growMounted(device, path string) error {
	if needed, err := smaller(device); err != nil || !needed {
		return err
	}
	found, err := mounts(path)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return fmt.Errorf("%s has nothing mounted: %s cannot be grown", path, device)
	}
	if top := found[len(found)-1]; top.FSType == "xfs" {
		_, err = command("xfs_growfs", "-d", path)
		return err
	}
	said, err := command("resize2fs", device)
	if err != nil && strings.Contains(said, "Permission denied") {
		// What a CO is told by a driver that can grow a volume only while no pod uses it.
		return status.Errorf(codes.FailedPrecondition,
			"the kernel lets only CAP_SYS_RESOURCE grow a mounted ext4: it is grown when it is staged next (%s)", said)
	}
	return err
}
