package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxNodeID: loop devices carry the node's id in their 64-byte name, so that nodes on one machine know theirs.
const maxNodeID = 63

// patience is how long a device may still be in use when it is detached.
const patience = 2 * time.Second

// loops returns the names (loop7) of loop devices over a file, of one node or, for an empty id, of all.
func loops(file, nodeID string) ([]string, error) {
	want, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	status := want.Sys().(*syscall.Stat_t)
	entries, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	// The path may be written differently in another mount namespace, but it ends alike; devices of others are
	// not even opened.
	ending := filepath.Join(filepath.Base(filepath.Dir(file)), filepath.Base(file))
	var found []string
	for _, entry := range entries {
		backing, err := os.ReadFile(entry)
		path := strings.TrimSuffix(strings.TrimSuffix(string(backing), "\n"), " (deleted)")
		if err != nil || !strings.HasSuffix(path, ending) {
			continue
		}
		name := strings.Split(entry, "/")[3]
		info, err := loopInfo(name)
		if errors.Is(err, unix.ENXIO) || errors.Is(err, fs.ErrNotExist) {
			continue // detached meanwhile
		}
		if err != nil {
			return nil, err
		}
		if info.Device == status.Dev && info.Inode == status.Ino &&
			(nodeID == "" || unix.ByteSliceToString(info.File_name[:]) == nodeID) {
			found = append(found, name)
		}
	}
	return found, nil
}

func loopInfo(name string) (*unix.LoopInfo64, error) {
	device, err := os.Open("/dev/" + name)
	if err != nil {
		return nil, err
	}
	defer device.Close()
	return unix.IoctlLoopGetStatus64(int(device.Fd()))
}

// attach returns this node's loop device over a file (/dev/loop7), making it if there is none, with the size
// that the file has now.
func attach(file, nodeID string) (string, error) {
	found, err := loops(file, nodeID)
	if err != nil {
		return "", err
	}
	if len(found) > 0 {
		return "/dev/" + found[0], resize("/dev/" + found[0])
	}
	backing, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer backing.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer control.Close()
	config := unix.LoopConfig{
		Fd:   uint32(backing.Fd()),
		Size: 512, // of a sector
		// Written to the file, not to its cache; the kernel drops the flag where that cannot be.
		Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_DIRECT_IO},
	}
	copy(config.Info.File_name[:], nodeID)
	for range 100 {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return "", fmt.Errorf("free loop device: %w", err)
		}
		path := fmt.Sprintf("/dev/loop%d", number)
		if err = configure(path, &config); err == nil {
			return path, nil
		}
		if !errors.Is(err, unix.EBUSY) { // else another process was faster
			return "", fmt.Errorf("%s over %s: %w", path, file, err)
		}
	}
	return "", fmt.Errorf("no loop device for %s: others took each that was free", file)
}

func configure(path string, config *unix.LoopConfig) error {
	device, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer device.Close()
	return unix.IoctlLoopConfigure(int(device.Fd()), config)
}

// resize gives a loop device the size that its file has now.
func resize(path string) error {
	device, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer device.Close()
	_, err = unix.IoctlRetInt(int(device.Fd()), unix.LOOP_SET_CAPACITY)
	return err
}

// detach ends this node's loop device over a file, if there is one. It is an error if it is still in use: a
// user that goes later makes it vanish, but the caller must not take the volume for free.
func detach(file, nodeID string) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		found, err := loops(file, nodeID)
		if errors.Is(err, fs.ErrNotExist) || err == nil && len(found) == 0 {
			return nil
		}
		if err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("/dev/%s over %s is still in use", found[0], file)
		}
		for _, name := range found {
			if err := end(name); err != nil {
				return err
			}
		}
	}
}

// detachAll ends all loop devices over a file, those in use when their last user goes.
func detachAll(file string) error {
	found, err := loops(file, "")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, name := range found {
		err = errors.Join(err, end(name))
	}
	return err
}

func end(name string) error {
	device, err := os.OpenFile("/dev/"+name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer device.Close()
	if err := device.Sync(); err != nil {
		return fmt.Errorf("flush of /dev/%s: %w", name, err)
	}
	_, err = unix.IoctlRetInt(int(device.Fd()), unix.LOOP_CLR_FD)
	if errors.Is(err, unix.ENXIO) {
		return nil // gone already
	}
	return err
}
