// Package payment is the arithmetic of the PaymentManager: what payers have
// paid ahead, what payees have earned and what is refunded, to the last wei and
// without rounding a rate.
//
// A payer's account carries the sum R of the rates of its pairs and the time P
// until which all of them are paid. The prepaid money is R*(P-now); what makes no
// whole seconds of R is the refund. Rates are token wei per second times 2^32.
// The contract is contracts/src/PaymentManager.sol; the vectors in
// protocol/testdata/vectors/payment.json hold both to the same.
package payment
