// SPDX-License-Identifier: Apache-2.0

package step_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/muster-project/muster/plan/step"
	"github.com/muster-project/muster/plan/step/steptest"
)

const (
	unitFile = "/etc/systemd/system/app.service"
	appConf  = "/etc/app.conf"
)

// started is a host on which a unit runs on its inputs.
func started(t *testing.T) (*steptest.World, step.Unit) {
	t.Helper()
	w := steptest.New(t)
	u := step.Unit{Name: "app.service", Inputs: []string{appConf}, Leaves: []string{"/var/lib/app"}}
	w.Write(unitFile, 0o644, "[Service]\n")
	w.Write(appConf, 0o644, "port: 1\n")
	if err := u.Do(t.Context(), w.Host); err != nil {
		t.Fatal(err)
	}
	return w, u
}

// After a reboot there is no stamp. The unit was started by the boot, so it
// runs on every input that is older.
func TestUnitAfterReboot(t *testing.T) {
	cases := []struct {
		name    string
		changed time.Duration // of the configuration, after the boot
		want    bool
	}{
		{"nothing changed", -time.Hour, true},
		{"changed before the boot", -time.Second, true},
		{"changed after the boot", 2 * time.Second, false},
	}
	for _, c := range cases {
		w, u := started(t)
		boot := time.Now().Add(-10 * time.Minute).Truncate(time.Second)
		w.Boot(boot)
		w.Age(unitFile, boot.Add(-24*time.Hour))
		w.Age(appConf, boot.Add(c.changed))
		if got, err := u.Done(t.Context(), w.Host); got != c.want || err != nil {
			t.Errorf("%s: done is %t, %v", c.name, got, err)
		}
	}
}

func TestUnitCannotTellBoot(t *testing.T) {
	for _, stat := range []string{"", "btime x\n"} {
		w, u := started(t)
		w.Boot(time.Now())
		w.Write("/proc/stat", 0o444, stat)
		if got, err := u.Done(t.Context(), w.Host); got || err == nil {
			t.Errorf("/proc/stat %q: %t, %v", stat, got, err)
		}
	}
}

// Do is cut between the restart and the stamp: the next run restarts once more
// and then it is right.
func TestUnitCutBeforeStamp(t *testing.T) {
	w, u := started(t)
	w.Write(appConf, 0o644, "port: 2\n")
	w.Remove("/run/muster/units")
	w.Write("/run/muster/units", 0o644, "") // where the folder of stamps should be
	if err := u.Do(t.Context(), w.Host); err == nil {
		t.Fatal("the stamp was written into a file")
	}
	w.Remove("/run/muster")
	done(t, w, u, false)
	if err := u.Do(t.Context(), w.Host); err != nil {
		t.Fatal(err)
	}
	done(t, w, u, true)
	if w.Units.Restarts["app.service"] != 3 {
		t.Errorf("%d starts", w.Units.Restarts["app.service"])
	}
}

// A unit that does not start leaves no stamp, so the next run tries again.
func TestUnitBroken(t *testing.T) {
	w, u := started(t)
	w.Write(appConf, 0o644, "port: x\n")
	w.Units.Broken["app.service"] = errors.New("exit 78")
	if err := u.Do(t.Context(), w.Host); !errors.Is(err, w.Units.Broken["app.service"]) {
		t.Fatalf("got %v", err)
	}
	delete(w.Units.Broken, "app.service")
	done(t, w, u, false)
	if err := u.Do(t.Context(), w.Host); err != nil {
		t.Fatal(err)
	}
	done(t, w, u, true)
}

func TestUnitWithoutInput(t *testing.T) {
	w, u := started(t)
	w.Remove(appConf)
	done(t, w, u, false)
	if err := u.Do(t.Context(), w.Host); err == nil || w.Units.Restarts["app.service"] != 1 {
		t.Errorf("restarted %d times without its configuration: %v", w.Units.Restarts["app.service"], err)
	}
}

// An input that was written anew with the same bytes asks for no restart.
func TestUnitSameBytes(t *testing.T) {
	w, u := started(t)
	w.Write(appConf, 0o644, "port: 1\n")
	done(t, w, u, true)
}

func TestUnitTouches(t *testing.T) {
	_, u := started(t)
	want := []step.Touch{
		{Kind: step.TouchUnit, Name: "app.service"},
		{Kind: step.TouchPath, Name: "/etc/systemd/system/multi-user.target.wants/app.service"},
		{Kind: step.TouchPath, Name: "/var/lib/app", Whole: true},
	}
	if got := u.Touches(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestUnitExplains(t *testing.T) {
	w, u := started(t)
	w.Exec.Journal["app.service"] = "bind: address in use\ngiving up\n"
	w.Units.Stop("app.service")
	want := []string{"app.service: enabled=true active=false sub=dead", "app.service: bind: address in use", "app.service: giving up"}
	if got := u.Explain(t.Context(), w.Host); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
	w.Units.Fail, w.Exec.Fail = errSilent, errSilent
	if got := u.Explain(t.Context(), w.Host); !reflect.DeepEqual(got, []string{"its log cannot be read: no answer"}) {
		t.Errorf("got %q", got)
	}
}
