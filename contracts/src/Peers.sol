// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @notice The contracts of one deployment: proxies at addresses that are known before anything is deployed, and helpers
/// without state. Every implementation is built for one such set and keeps what it needs of it as immutables.
/// @param authority The AccessManager.
/// @param token The ALEPH token.
/// @param beacon The verifier of drand's signatures.
/// @param swaps The adapter to Uniswap V3.
/// @param uptimeFeed Chainlink's sequencer uptime feed; zero on a chain that has none, and then there are no outages.
struct Peers {
    address authority;
    address token;
    address nodes;
    address staking;
    address jobs;
    address payments;
    address storages;
    address domains;
    address sla;
    address images;
    address beacon;
    address swaps;
    address uptimeFeed;
}
