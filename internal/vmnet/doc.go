// Package vmnet gives virtual machines their network: addresses, TAP devices,
// forwarded ports, and the firewall between tenants, their neighbours and the
// host.
//
// There are two modes. With privileges (tap mode) each machine has a TAP
// device with a /30 of its own, and one nftables table per node holds all
// rules: forwarded ports, egress behind the host's address, no traffic between
// machines, no spoofed addresses, no way into the host but ping, no way into
// private networks unless the operator allows it. Without privileges (user
// mode) the hypervisor's own stack forwards ports, and a guest cannot open
// connections unless the operator allows it.
//
// The network is declarative: the caller keeps leases in its database and
// gives all of them to Apply, which makes what is missing and removes what is
// ours and not wanted any more. Nothing of others is ever touched. Ours are the
// table named after Config.Name and the TAP devices that carry its mark in
// their name and alias. Both stay when the daemon goes, because machines do;
// Purge removes them.
//
// Rules go in before a device comes up, and the table drops everything of a
// device of ours that has no rules, so there is no moment without a firewall.
package vmnet
