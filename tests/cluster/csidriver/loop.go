package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Each node has a loop device of its own for a volume: a hard link to the data file, named by node, tells them
// apart, since the kernel shows a loop device by the path that it was made from.

func (d *driver) loopFile(id string) string {
	return filepath.Join(d.state.folder("volumes", id), "on-"+d.options.nodeID)
}

// attach gives the volume's loop device on this node; the one that is there when there is one.
func (d *driver) attach(id string) (string, error) {
	file := d.loopFile(id)
	if err := os.Link(d.state.volumeData(id), file); err != nil && !os.IsExist(err) {
		return "", err
	}
	device, err := loopOf(file)
	if err != nil || device != "" {
		return device, err
	}
	// No direct I/O: on a reflinked file the kernel would give the device sectors of 4 KiB, on which a file
	// system made on sectors of 512 bytes cannot be mounted.
	out, err := run("losetup", "--find", "--show", file)
	return strings.TrimSpace(out), err
}

// detach gives the loop device back; none is no error.
func (d *driver) detach(id string) error {
	file := d.loopFile(id)
	device, err := loopOf(file)
	if err != nil {
		return err
	}
	if device != "" {
		if _, err := run("losetup", "--detach", device); err != nil {
			return err
		}
	}
	if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

// loopOf finds a loop device by its file, empty when there is none.
func loopOf(file string) (string, error) {
	out, err := run("losetup", "--list", "--noheadings", "--raw", "--output", "NAME,BACK-FILE")
	if err != nil {
		return "", err
	}
	for _, line := range strings.Split(out, "\n") {
		name, back, _ := strings.Cut(strings.TrimSpace(line), " ")
		if back == file {
			return name, nil
		}
	}
	return "", nil
}

// run runs a program and returns what it printed; its words are in the error when it fails.
func run(name string, arguments ...string) (string, error) {
	out, err := exec.Command(name, arguments...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(arguments, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// isMounted looks a path up in this process's mounts.
func isMounted(path string) (bool, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return false, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 4 && fields[4] == path {
			return true, nil
		}
	}
	return false, lines.Err()
}

// unmount takes away all that is mounted on a path; nothing there is no error.
func unmount(path string) error {
	for {
		mounted, err := isMounted(path)
		if err != nil || !mounted {
			return err
		}
		if err := syscall.Unmount(path, 0); err != nil {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
}
