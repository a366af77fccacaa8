package ingest

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/credit"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/pricing"
)

// bill is what is to be paid for a message.
type bill struct {
	payment  message.PaymentType
	cost     *pricing.Cost // nil if it is not known
	file     *state.FileInfo
	isFile   bool
	onDemand bool // A machine that runs only when it is asked for.
	offered  bool // An offer pays for it, or another node has asked for the credits.
}

// Since when what is paid for how, by the times of messages. See section 4.7 of the
// protocol.
const (
	freeUntil        = 1_743_775_079 // Files and functions were free before.
	creditMachines   = 1_773_187_200 // Machines are paid by credit from then on,
	creditEverything = 1_798_761_600 // and all else from then on.
	freeFileBytes    = 25 << 20      // A file of this size is free until then.
	leastDays        = 1             // Credits must last for so many days.
	secondsPerDay    = 24 * 60 * 60
)

// afford wants a message to be paid in a way that its time allows, and its owner to
// have what that takes.
func (b *batch) afford(ctx context.Context, it *item, m *state.Message, l bill) error {
	at := m.Envelope.Time.Unix()
	if err := checkMethod(m, l, at); err != nil {
		return err
	}
	free := (l.isFile || l.onDemand) && isFree(it, at)
	small := l.isFile && l.payment == message.PayHold && l.file != nil && l.file.SizeBytes <= freeFileBytes
	switch {
	case free, small, l.cost == nil, l.payment == message.PaySuperfluid:
		return nil // Who runs it looks after the stream.
	case l.payment == message.PayCredit:
		if l.offered {
			return nil
		}
		return b.affordCredit(ctx, it, m, l.cost)
	default:
		return b.affordHold(ctx, m, l.cost)
	}
}

// isFree reports whether a message is of before files and functions cost anything: by
// the height of the transaction that names it, or by its time if there is none.
func isFree(it *item, at int64) bool {
	if tx := it.origin.Tx; tx != nil && tx.Chain == message.Ethereum {
		return tx.Height < holdFrom
	}
	return at < freeUntil
}

// checkMethod wants a payment of a kind that the time of the message allows.
func checkMethod(m *state.Message, l bill, at int64) error {
	_, verifiable := m.Parsed.(*message.VerifiableProgram)
	switch {
	case l.payment == message.PayCredit:
		return nil
	case verifiable:
		return message.Reject(message.CodeInvalidPaymentMethod, "a verifiable program is paid by credit")
	case at >= creditEverything:
		return message.Reject(message.CodeInvalidPaymentMethod, "payment by %s ended on 2027-01-01; use credit", l.payment)
	case !l.isFile && !l.onDemand && at >= creditMachines:
		return message.Reject(message.CodeInvalidPaymentMethod, "payment of machines by %s ended on 2026-03-11; use credit", l.payment)
	}
	return nil
}

// affordHold wants the owner to hold the tokens of this and of all else.
func (b *batch) affordHold(ctx context.Context, m *state.Message, cost *pricing.Cost) error {
	need, err := b.sum(ctx, m.Owner, message.PayHold)
	if err != nil {
		return err
	}
	need.Add(need, cost.Hold.Rat())
	have, err := b.tokens(ctx, m.Owner)
	if err != nil {
		return err
	}
	if have.Cmp(need) >= 0 {
		return nil
	}
	return message.RejectBalance(decimalText(need), decimalText(have))
}

// affordCredit wants the owner to have the credits of this and of all else for a
// day.
func (b *batch) affordCredit(ctx context.Context, it *item, m *state.Message, cost *pricing.Cost) error {
	need, err := b.sum(ctx, m.Owner, message.PayCredit)
	if err != nil {
		return err
	}
	need.Add(need, cost.Credit.Rat())
	need.Mul(need, new(big.Rat).SetInt64(leastDays*secondsPerDay))
	have, err := b.credits(ctx, it, m.Owner)
	if err != nil {
		return err
	}
	if have.Cmp(need) >= 0 {
		return nil
	}
	return message.RejectCredits(decimalText(need), decimalText(have))
}

// sum adds up what an owner pays in a way for all that is here: tokens held, or
// credits per second.
func (b *batch) sum(ctx context.Context, owner string, payment message.PaymentType) (*big.Rat, error) {
	costs, err := b.tx.CostsOf(ctx, owner, payment)
	if err != nil {
		return nil, err
	}
	sum := new(big.Rat)
	for _, c := range costs {
		text := c.Hold
		if payment == message.PayCredit {
			text = c.Credit
		}
		one, ok := new(big.Rat).SetString(text)
		if !ok {
			return nil, fmt.Errorf("cost of message %s is %q", c.Message, text)
		}
		sum.Add(sum, one)
	}
	return sum, nil
}

// decimalText writes an amount as refusals do.
func decimalText(r *big.Rat) string {
	if r.IsInt() {
		return r.Num().String()
	}
	const places = 18
	return r.FloatString(places)
}

// putCost records what a message costs.
func (b *batch) putCost(ctx context.Context, m *state.Message, payment message.PaymentType, cost *pricing.Cost) error {
	if cost == nil {
		return nil
	}
	lines, err := json.Marshal(cost.Lines)
	if err != nil {
		return fmt.Errorf("encode cost of message %s: %w", m.Envelope.ItemHash, err)
	}
	if payment == message.PayHold || payment == message.PayCredit {
		if err := b.tx.PutReview(ctx, payment, m.Owner); err != nil {
			return err
		}
	}
	return b.tx.PutCost(ctx, state.Cost{
		Message: m.Envelope.ItemHash, ID: m.ID, Owner: m.Owner, Payment: payment, Hold: cost.Hold.String(), Stream: cost.Stream.String(),
		Credit: cost.Credit.String(), Lines: lines,
	})
}

// tokens is what an owner holds, on all chains.
func (b *batch) tokens(ctx context.Context, owner string) (*big.Rat, error) {
	total, _, err := b.tx.BalancesOf(ctx, owner)
	return total.Rat(), err
}

// credits is what an owner can pay with by credit: what the ledger has, and what a
// wallet lets the payment contract take.
func (b *batch) credits(ctx context.Context, it *item, owner string) (*big.Rat, error) {
	n, err := b.tx.CreditBalance(ctx, owner, b.now)
	if err != nil {
		return nil, err
	}
	sum := new(big.Rat).SetInt64(n)
	if it.runway != nil {
		sum.Add(sum, it.runway)
	}
	return sum, nil
}

// runwayMax bounds the question of what a wallet has, and the wait for its turn.
const runwayMax = 3 * time.Second

// runwaysMax bounds such questions at the same time: whoever signs a message that is
// paid by credit has one asked, of a chain's node that answers others too.
const runwaysMax = 4

// Runway returns the credits that stand for what an owner's wallet lets the payment
// contract take: machines run as long on either. An owner without a wallet on the
// chain has none.
func (p *Pipeline) Runway(ctx context.Context, owner string) (*big.Rat, error) {
	if p.funds == nil || !common.IsHexAddress(owner) || !strings.HasPrefix(owner, "0x") {
		return new(big.Rat), nil
	}
	ctx, cancel := context.WithTimeout(ctx, runwayMax)
	defer cancel()
	select {
	case p.runways <- struct{}{}:
		defer func() { <-p.runways }()
	case <-ctx.Done():
		return nil, errs.New(errs.Unavailable, "ask for the funds of %s, as %d others do: %w", owner, runwaysMax, context.Cause(ctx))
	}
	balance, allowance, refund, err := p.funds.Funds(ctx, common.HexToAddress(owner), job.TokenALEPH)
	if err != nil {
		return nil, err
	}
	per, ok := p.table.CreditsPerToken()
	if !ok {
		return new(big.Rat), nil
	}
	wei := new(big.Int).Set(balance)
	if allowance.Cmp(wei) < 0 {
		wei.Set(allowance)
	}
	tokens := new(big.Rat).SetFrac(wei.Add(wei, refund), new(big.Int).Exp(big.NewInt(10), big.NewInt(decimalsALEPH), nil))
	return tokens.Mul(tokens, per), nil
}

// findRunway asks for the runway of the owner of a message that is paid by credit,
// before anything waits for the answer. Without one the ledger alone counts.
func (p *Pipeline) findRunway(ctx context.Context, it *item) {
	if t := it.env.Type; t == message.TypePost || t == message.TypeAggregate || t == message.TypeForget {
		return // Nobody pays for them.
	}
	if it.env.ItemType != message.Inline || it.sigErr != nil {
		return
	}
	c, err := it.env.Content()
	if err != nil {
		return
	}
	payment := message.LabelsOf(c).Payment
	if payment == nil || *payment != message.PayCredit {
		return
	}
	if it.runway, err = p.Runway(ctx, c.Owner()); err != nil {
		p.log.Warn("funds on chain not known, only credits count", "item_hash", it.env.ItemHash, "owner", c.Owner(), "err", err)
	}
}

// spending are the posts that say what addresses have.
func (b *batch) spending(m *state.Message, p *message.Post) (balances *credit.Balances, event *credit.Event, err error) {
	what := credit.PostOf(&m.Envelope, p)
	if balances, err = b.p.rules.Balances(what); err != nil || balances != nil {
		return balances, nil, err
	}
	event, err = b.p.rules.Event(what)
	return nil, event, err
}

// enterBalances takes over what a post says of balances of tokens.
func (b *batch) enterBalances(ctx context.Context, m *state.Message, what *credit.Balances) error {
	changed, err := b.tx.PutBalances(ctx, what)
	if err != nil {
		return err
	}
	if err := b.tx.ReviewPayers(ctx, message.PayHold, changed); err != nil {
		return err
	}
	return b.retryPoor(ctx, changed, m.MadeAt)
}

// undoBalances notes that what a post said of balances should not have counted.
func (b *batch) undoBalances(m *state.Message, p *message.Post) {
	if p.Type == credit.TypeBalances && slices.Contains(b.p.rules.BalanceOwners, m.Owner) {
		b.unsaid = append(b.unsaid, m.Envelope.ItemHash)
	}
}

// unsay takes back the balances that should not have counted, of all posts at once: what
// holds instead is looked for in all that was ever said.
func (b *batch) unsay(ctx context.Context) error {
	if len(b.unsaid) == 0 {
		return nil
	}
	if err := b.flush(ctx); err != nil {
		return err
	}
	changed, err := b.tx.RevokeBalances(ctx, b.p.rules, b.unsaid, func(hear func(*credit.Balances)) error { return b.forgottenBalances(ctx, hear) })
	if err != nil {
		return err
	}
	b.unsaid = nil
	if err := b.tx.ReviewPayers(ctx, message.PayHold, changed); err != nil {
		return err
	}
	return b.retryPoor(ctx, changed, time.Time{})
}

// forgottenBalances reads what posts said of balances that were forgotten since, which
// holds until a newer one. Their contents are here as long as they may count again.
func (b *batch) forgottenBalances(ctx context.Context, hear func(*credit.Balances)) error {
	left, err := b.tx.SealedPosts(ctx, credit.TypeBalances, b.p.rules.BalanceOwners)
	if err != nil {
		return err
	}
	for i := range left {
		env := new(message.Envelope)
		if err := env.UnmarshalJSON(left[i].Sealed); err != nil {
			return fmt.Errorf("decode message %s that was forgotten: %w", left[i].Envelope.ItemHash, err)
		}
		it := &item{env: env}
		if err := b.p.readWaiting(ctx, it); err != nil {
			return err
		}
		if it.content == nil {
			b.p.log.Warn("forgotten message said what balances are, and its content is gone", "item_hash", env.ItemHash)
			continue
		}
		c, err := message.ParseContent(env, it.content)
		if err != nil {
			return fmt.Errorf("read message %s that was forgotten: %w", env.ItemHash, err)
		}
		if p, ok := c.(*message.Post); ok {
			if said, err := b.p.rules.Balances(credit.PostOf(env, p)); err == nil && said != nil {
				hear(said)
			}
		}
	}
	return nil
}

// coverTransfer wants the credits of a transfer to have been there when it was made,
// and to be there still.
func (b *batch) coverTransfer(ctx context.Context, e *credit.Event) error {
	if !e.Spends() {
		return nil
	}
	// That of a message which counts again, after a FORGET that does not, is there.
	if known, err := b.tx.CreditKnown(ctx, e.Hash); err != nil || known {
		return err
	}
	there, left, err := b.tx.CreditsAt(ctx, e.Owner, e.Place)
	if err != nil {
		return err
	}
	if min(there, left) >= e.Need {
		return nil
	}
	return waitFor(message.Reject(message.CodeInvalidFormat, "Insufficient credits: %s transfers %d and has %d", e.Owner, e.Need, min(there, left)), thingCredits(e.Owner))
}

// enterCredits takes over what a post does to credits.
func (b *batch) enterCredits(ctx context.Context, m *state.Message, e *credit.Event) error {
	changed, err := b.tx.ApplyCredit(ctx, e)
	if err != nil {
		return err
	}
	if err := b.tx.ReviewPayers(ctx, message.PayCredit, changed); err != nil {
		return err
	}
	for _, address := range changed {
		b.things = append(b.things, thingCredits(address))
	}
	return b.retryPoor(ctx, changed, m.MadeAt)
}

// undoCredits takes back what a post did to credits that should not have counted; nothing
// happens if that was nothing.
func (b *batch) undoCredits(ctx context.Context, m *state.Message) error {
	changed, err := b.tx.RevokeCredit(ctx, m.Envelope.ItemHash)
	if err != nil {
		return err
	}
	for _, address := range changed {
		b.things = append(b.things, thingCredits(address))
	}
	return b.tx.ReviewPayers(ctx, message.PayCredit, changed)
}

// retryPoor judges again what was refused to owners for want of what they have been
// given by a time, if it was made after it: the news of it came late.
func (b *batch) retryPoor(ctx context.Context, owners []string, from time.Time) error {
	for _, owner := range owners {
		refused, err := b.tx.RejectedOf(ctx, owner, from, message.CodeBalanceInsufficient, message.CodeCreditInsufficient)
		if err != nil {
			return err
		}
		for _, r := range refused {
			if err := b.tx.Retry(ctx, r, b.now); err != nil {
				return err
			}
		}
	}
	return nil
}
