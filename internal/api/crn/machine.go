package crn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// expireMax bounds for how long a machine may be left to run.
const expireMax = 10 * 24 * time.Hour

// update reads anew which ports are to be forwarded to a machine. Anybody may ask.
func (s *Server) update(c *call) error {
	vm, err := c.ref()
	if err != nil {
		return err
	}
	_, err = s.updates.Do(c.r.Context(), vm, func(ctx context.Context) (struct{}, error) {
		leave, err := s.look()
		if err != nil {
			return struct{}{}, refuse(http.StatusServiceUnavailable, errs.Public(err))
		}
		defer leave()
		return struct{}{}, s.parts.Machines.UpdatePorts(ctx, vm)
	})
	switch errs.KindOf(err) {
	case "":
		return s.json(c, http.StatusOK, struct{}{})
	case errs.NotFound:
		return refuseReason(http.StatusNotFound, "VM not found")
	case errs.Unavailable:
		return s.json(c, http.StatusOK, map[string]string{"status": "ok", "msg": "VM not starting yet"})
	default:
		return err
	}
}

// done answers an owner.
func (s *Server) done(c *call, err error, text string, vm message.ItemHash) error {
	if err != nil {
		return err
	}
	s.text(c, http.StatusOK, text+string(vm))
	return nil
}

// stop stops a machine; its disks stay.
func (s *Server) stop(c *call) error {
	e, err := s.owned(c)
	if err != nil {
		return err
	}
	if !e.Running && !e.comesUp() && !e.AwaitingOwner {
		s.text(c, http.StatusOK, "Already stopped, nothing to do")
		return nil
	}
	c.unhurried()
	return s.done(c, s.parts.Machines.Stop(c.r.Context(), e.Hash), "Stopped VM with ref ", e.Hash)
}

// start starts a machine that its owner stopped.
func (s *Server) start(c *call) error {
	e, err := s.owned(c)
	if err != nil {
		return err
	}
	if e.Running {
		s.text(c, http.StatusOK, "Already running, nothing to do")
		return nil
	}
	c.unhurried()
	return s.done(c, s.parts.Machines.Resume(c.r.Context(), e.Hash), "Started VM with ref ", e.Hash)
}

// reboot starts a machine that does not run: the reference only says so.
func (s *Server) reboot(c *call) error {
	e, err := s.owned(c)
	if err != nil {
		return err
	}
	c.unhurried()
	if !e.Running {
		return s.done(c, s.parts.Machines.Resume(c.r.Context(), e.Hash), "Starting VM (was not running) with ref ", e.Hash)
	}
	return s.done(c, s.parts.Machines.Reboot(c.r.Context(), e.Hash), "Rebooted VM with ref ", e.Hash)
}

func (s *Server) erase(c *call) error {
	e, err := s.owned(c)
	if err != nil {
		return err
	}
	c.unhurried()
	return s.done(c, s.parts.Machines.Erase(c.r.Context(), e.Hash), "Erased VM with ref ", e.Hash)
}

func (s *Server) reinstall(c *call) error {
	e, err := s.owned(c)
	if err != nil {
		return err
	}
	c.unhurried()
	volumes := c.r.URL.Query().Get("erase_volumes") != "false"
	return s.done(c, s.parts.Machines.Reinstall(c.r.Context(), e.Hash, volumes), "Reinstalled VM with ref ", e.Hash)
}

// expire stops a machine after a time, which clients write into the body; the
// reference looks for it elsewhere, and never finds it.
func (s *Server) expire(c *call) error {
	e, err := s.owned(c)
	if err != nil {
		return err
	}
	seconds, err := timeout(c)
	after := time.Duration(seconds * float64(time.Second))
	if err != nil || !(seconds > 0 && seconds < expireMax.Seconds()) || after <= 0 {
		return refuse(http.StatusBadRequest, "Invalid timeout duration")
	}
	if err := s.parts.Machines.Expire(c.r.Context(), e.Hash, after); err != nil {
		return err
	}
	s.text(c, http.StatusOK, fmt.Sprintf("Expiring VM with ref %s in %s seconds", e.Hash, PythonFloat(seconds)))
	return nil
}

// timeout is the number of seconds in the body, or in the query.
func timeout(c *call) (float64, error) {
	if text := c.r.URL.Query().Get("timeout"); text != "" {
		return strconv.ParseFloat(text, 64)
	}
	var in struct {
		Timeout *json.Number `json:"timeout"`
	}
	err := json.NewDecoder(c.r.Body).Decode(&in)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if in.Timeout == nil {
		return 0, errs.New(errs.Invalid, "the body names no timeout")
	}
	return in.Timeout.Float64()
}

// recreateNetwork makes the rules of the firewall anew.
func (s *Server) recreateNetwork(c *call) error {
	if _, err := s.scheduled(c); err != nil {
		return err
	}
	c.unhurried()
	done, err := s.parts.Machines.RecreateNetwork(c.r.Context())
	if err != nil {
		s.log.Error("network not recreated", "err", err)
		return s.json(c, http.StatusInternalServerError, map[string]any{"success": false, "error": failureOf(err).Text})
	}
	type failed struct {
		VM    message.ItemHash `json:"vm_hash"`
		Error string           `json:"error"`
	}
	fails := []failed{}
	for vm, err := range done.Failed {
		fails = append(fails, failed{vm, failureOf(err).Text})
	}
	status := http.StatusOK
	if len(fails) > 0 {
		status = http.StatusMultiStatus
	}
	return s.json(c, status, map[string]any{
		"success": len(fails) == 0, "removed_chains_count": len(done.Removed), "removed_chains": append([]string{}, done.Removed...),
		"recreated_count": len(done.VMs), "failed_count": len(fails), "recreated_vms": append([]message.ItemHash{}, done.VMs...), "failed_vms": fails,
	})
}

// regenerateProxy leads the names of domains anew.
func (s *Server) regenerateProxy(c *call) error {
	if _, err := s.scheduled(c); err != nil {
		return err
	}
	err := errs.New(errs.Unavailable, "there is no proxy")
	if s.parts.Proxy != nil {
		err = s.parts.Proxy.Regenerate(c.r.Context())
	}
	if err != nil {
		s.log.Warn("proxy not regenerated", "err", err)
		return s.json(c, http.StatusInternalServerError, map[string]any{"success": false, "error": "Failed to regenerate HAProxy configuration: " + failureOf(err).Text})
	}
	return s.json(c, http.StatusOK, map[string]any{"success": true, "message": "HAProxy configuration regenerated successfully"})
}
