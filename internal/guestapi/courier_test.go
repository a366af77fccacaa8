package guestapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/guestapi"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

// core takes messages as its answers say, one after the other; then it takes all.
type core struct {
	answers []answer
	posted  int
	known   map[message.ItemHash]bool
}

// answer is an error to the sender, and whether the message was taken all the same.
type answer struct {
	err   error
	taken bool
}

func (c *core) Post(_ context.Context, raw json.RawMessage) error {
	e, err := message.Parse(raw)
	if err != nil {
		return err
	}
	c.posted++
	a := answer{taken: true}
	if len(c.answers) > 0 {
		a, c.answers = c.answers[0], c.answers[1:]
	}
	if a.taken {
		c.known[e.ItemHash] = true
	}
	return a.err
}

func (c *core) Standing(_ context.Context, hash message.ItemHash) (string, error) {
	if c.known[hash] {
		return "processed", nil
	}
	return "", errs.New(errs.NotFound, "not known")
}

// envelope is a signed message.
func envelope(t *testing.T, text string) (message.ItemHash, json.RawMessage) {
	t.Helper()
	k, err := crypto.ToECDSA(crypto.Keccak256([]byte("courier")))
	if err != nil {
		t.Fatal(err)
	}
	content := []byte(`{"address":"` + crypto.PubkeyToAddress(k.PublicKey).Hex() + `","time":1,"type":"note","content":"` + text + `"}`)
	e := &message.Envelope{Chain: message.Ethereum, Type: message.TypePost, Time: time.Unix(1, 0).UTC(), ItemType: message.Inline, ItemContent: string(content), ItemHash: message.HashOf(content)}
	if err := signature.SignEVM(k, e); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return e.ItemHash, raw
}

func TestMessagesOfProgramsAreHandedInOnce(t *testing.T) {
	away := errs.New(errs.Unavailable, "away")
	for _, tt := range []struct {
		name    string
		answers []answer
		posts   int
		known   bool
	}{
		{"at once", nil, 1, true},
		{"after three that are away", []answer{{err: away}, {err: away}, {err: errors.New("502")}}, 4, true},
		{"the answer is lost", []answer{{err: away, taken: true}}, 1, true},
		{"refused", []answer{{err: errs.New(errs.Invalid, "refused")}}, 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			db, err := state.Open(t.Context(), t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			hash, raw := envelope(t, tt.name)
			c := &core{answers: tt.answers, known: map[message.ItemHash]bool{}}
			at := time.Now()
			courier := guestapi.NewCourier(db, c, slog.New(slog.DiscardHandler))
			for range 2 { // A program that says it twice says it once.
				if err := courier.Publish(t.Context(), spec, raw); err != nil {
					t.Fatal(err)
				}
			}
			for range 20 { // Each pass by another process, as after a crash.
				courier = guestapi.NewCourier(db, c, slog.New(slog.DiscardHandler))
				at = at.Add(time.Minute)
				if err := courier.PassAt(t.Context(), at); err != nil {
					t.Fatal(err)
				}
			}
			left, err := db.CoreMessages(t.Context())
			if err != nil || len(left) > 0 || c.posted != tt.posts || c.known[hash] != tt.known {
				t.Errorf("%d are left (%v), posted %d times, known %v; want %d times, known %v", len(left), err, c.posted, c.known[hash], tt.posts, tt.known)
			}
		})
	}
}

func TestWhatNobodyTakesIsGivenUpAfterADay(t *testing.T) {
	db, err := state.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	_, raw := envelope(t, "never")
	c := &core{known: map[message.ItemHash]bool{}}
	for range 1000 {
		c.answers = append(c.answers, answer{err: errs.New(errs.Unavailable, "away")})
	}
	courier := guestapi.NewCourier(db, c, slog.New(slog.DiscardHandler))
	if err := courier.Publish(t.Context(), spec, raw); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	var gone time.Duration
	for after := time.Duration(0); after < 26*time.Hour; after += time.Minute {
		if err := courier.PassAt(t.Context(), begin.Add(after)); err != nil {
			t.Fatal(err)
		}
		if left, err := db.CoreMessages(t.Context()); err != nil || len(left) == 0 && gone == 0 {
			gone = after
		}
	}
	if gone < 24*time.Hour || gone > 25*time.Hour || c.posted > 200 {
		t.Errorf("gone after %v and %d tries", gone, c.posted)
	}
}

func TestOnlySignedMessagesAreKeptForCoreNodes(t *testing.T) {
	db, err := state.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	courier := guestapi.NewCourier(db, &core{}, slog.New(slog.DiscardHandler))
	_, raw := envelope(t, "x")
	var e map[string]any
	if err := json.Unmarshal(raw, &e); err != nil {
		t.Fatal(err)
	}
	e["sender"] = "0x0000000000000000000000000000000000000001"
	forged, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"{}", "nonsense", string(forged)} {
		if err := courier.Publish(t.Context(), spec, []byte(bad)); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%.40s: %v, want it refused", bad, err)
		}
	}
}

func TestCourierWakesForAMessage(t *testing.T) {
	db, err := state.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	hash, raw := envelope(t, "now")
	c := &core{known: map[message.ItemHash]bool{}}
	courier := guestapi.NewCourier(db, c, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	ended, wake := make(chan error, 1), db.Wake("core_messages")
	go func() { ended <- courier.Run(ctx) }()
	if err := courier.Publish(t.Context(), spec, raw); err != nil {
		t.Fatal(err)
	}
	for {
		left, err := db.CoreMessages(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			break
		}
		<-wake
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) || !c.known[hash] {
		t.Errorf("Run ended with %v, known %v", err, c.known[hash])
	}
}

// courierOf returns one of an empty database.
func courierOf(t *testing.T, c guestapi.Core) (*guestapi.Courier, *state.DB) {
	t.Helper()
	db, err := state.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return guestapi.NewCourier(db, c, slog.New(slog.DiscardHandler)), db
}

func TestAPassEndsWithTheFirstMessageThatNobodyTakes(t *testing.T) {
	away := answer{err: errs.New(errs.Unavailable, "away")}
	c := &core{known: map[message.ItemHash]bool{}, answers: []answer{away, away}}
	courier, db := courierOf(t, c)
	for n := range 40 {
		_, raw := envelope(t, strconv.Itoa(n))
		if err := courier.Publish(t.Context(), spec, raw); err != nil {
			t.Fatal(err)
		}
	}
	at := time.Now().Add(time.Second)
	for _, step := range []struct {
		after         time.Duration
		posted, known int
	}{{0, 1, 0}, {0, 2, 0}, {0, 40, 38}, {time.Minute, 42, 40}} {
		if err := courier.PassAt(t.Context(), at.Add(step.after)); err != nil {
			t.Fatal(err)
		}
		if c.posted != step.posted || len(c.known) != step.known {
			t.Fatalf("posted %d times, %d known, want %d and %d", c.posted, len(c.known), step.posted, step.known)
		}
	}
	if left, err := db.CoreMessages(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("%d are left, %v", len(left), err)
	}
}

func TestOneProgramLeavesRoomToTheOthers(t *testing.T) {
	for _, tt := range []struct {
		name    string
		padding int
		fit     int // How many of one program are taken.
	}{{"many", 0, 256}, {"large", 150_000, 55}} {
		t.Run(tt.name, func(t *testing.T) {
			courier, _ := courierOf(t, &core{})
			padding := strings.Repeat("x", tt.padding)
			var first json.RawMessage
			for n := range tt.fit {
				_, raw := envelope(t, padding+strconv.Itoa(n))
				if n == 0 {
					first = raw
				}
				if err := courier.Publish(t.Context(), spec, raw); err != nil {
					t.Fatalf("message %d: %v", n, err)
				}
			}
			_, raw := envelope(t, padding+"more")
			if err := courier.Publish(t.Context(), spec, raw); errs.KindOf(err) != errs.Exhausted {
				t.Errorf("one more: %v, want it refused", err)
			}
			if err := courier.Publish(t.Context(), spec, first); err != nil {
				t.Errorf("one that waits already: %v", err)
			}
			if err := courier.Publish(t.Context(), other, raw); err != nil {
				t.Errorf("another program's: %v", err)
			}
		})
	}
}

func TestAllProgramsTogetherAreBounded(t *testing.T) {
	courier, _ := courierOf(t, &core{})
	padding := strings.Repeat("x", 190_000)
	for n := range 400 {
		_, raw := envelope(t, padding+strconv.Itoa(n))
		err := courier.Publish(t.Context(), message.HashOf([]byte(strconv.Itoa(n/40))), raw)
		if errs.KindOf(err) == errs.Exhausted && n > 340 && n < 352 {
			return
		}
		if err != nil {
			t.Fatalf("message %d: %v", n, err)
		}
	}
	t.Error("64 MiB are no bound")
}
