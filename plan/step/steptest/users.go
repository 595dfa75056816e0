// SPDX-License-Identifier: Apache-2.0

package steptest

import (
	"os"
	"os/user"
	"strconv"
)

// Users are the host's users in memory, besides root.
type Users struct {
	// Fail, if set, is the answer to every question.
	Fail  error
	known map[string]bool
}

// Add makes a user known.
func (u *Users) Add(name string) { u.known[name] = true }

// Has reports whether the user is known.
func (u *Users) Has(name string) bool { return u.known[name] }

// otherUser is the number of all users besides root.
const otherUser = 901

func (u *Users) lookup(name string) (*user.User, error) {
	if u.Fail != nil {
		return nil, u.Fail
	}
	if !u.known[name] {
		return nil, user.UnknownUserError(name)
	}
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 {
		uid, gid = otherUser, otherUser
	}
	return &user.User{Username: name, Uid: strconv.Itoa(uid), Gid: strconv.Itoa(gid)}, nil
}
