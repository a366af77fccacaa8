package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

// A bare loop is the least that taking in a message can be: it reads the message,
// checks its hash and its signature, appends it to a log, and answers when that is on
// the disk. Those who wait share one wait for the disk. Nothing can be found again.
type bareLoop struct {
	mu    sync.Mutex
	log   *os.File
	wait  []chan error // guarded by mu
	queue []byte       // guarded by mu
	busy  bool         // guarded by mu
}

// serveBare listens on the port that the file's name ends with.
func serveBare(ctx context.Context, file string) error {
	log, err := os.Create(file)
	if err != nil {
		return err
	}
	l := &bareLoop{log: log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /api/v0/messages", l.take)
	srv := &http.Server{Addr: "127.0.0.1:" + file[strings.LastIndexByte(file, '-')+1:], Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() {
		<-ctx.Done()
		_ = srv.Close() // The process ends.
	}()
	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return errors.Join(err, log.Close())
	}
	return log.Close()
}

func (l *bareLoop) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var in struct {
		Message json.RawMessage `json:"message"`
	}
	if err = json.Unmarshal(body, &in); err == nil {
		var env *message.Envelope
		if env, err = message.Parse(in.Message); err == nil {
			if err = signature.Verify(env); err == nil {
				err = l.store(in.Message)
			}
		}
	}
	if err != nil {
		w.WriteHeader(http.StatusUnprocessableEntity)
		return
	}
	_, _ = io.WriteString(w, `{"publication_status":{"status":"success","failed":[]},"message_status":"processed"}`) // Who is gone is gone.
}

// store appends a message and waits until it is on the disk.
func (l *bareLoop) store(raw []byte) error {
	done := make(chan error, 1)
	l.mu.Lock()
	l.queue = append(append(l.queue, raw...), '\n')
	l.wait = append(l.wait, done)
	mine := !l.busy
	l.busy = true
	l.mu.Unlock()
	if mine {
		go l.write()
	}
	return <-done
}

func (l *bareLoop) write() {
	for {
		l.mu.Lock()
		queue, wait := l.queue, l.wait
		l.queue, l.wait = nil, nil
		if len(wait) == 0 {
			l.busy = false
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		_, err := l.log.Write(queue)
		if err == nil {
			err = l.log.Sync()
		}
		for _, done := range wait {
			done <- err
		}
	}
}
