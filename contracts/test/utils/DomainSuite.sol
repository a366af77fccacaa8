// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDomainRegistry} from "../../src/interfaces/IDomainRegistry.sol";
import {QuorumSuite} from "./QuorumSuite.sol";

/// @title DomainSuite
/// @notice How names are asked for and attested.
abstract contract DomainSuite is QuorumSuite {
    IDomainRegistry.Method internal constant TOKEN_METHOD = IDomainRegistry.Method.Token;

    /// @dev What the first `n` coordinators saw.
    function _attest(bytes32 key, address owner, uint32 nonce, uint40 seenAt, uint8 n)
        internal
        view
        returns (bytes memory)
    {
        bytes memory who = new bytes(n);
        for (uint8 i; i < n; ++i) {
            who[i] = bytes1(i);
        }
        return _sigs(domains.attestationDigest(key, owner, nonce, TOKEN_METHOD, seenAt), who);
    }

    function _ask(address who, string memory name) internal returns (bytes32 key) {
        vm.prank(who);
        (key,) = domains.request(name, IDomainRegistry.TargetType.Site, keccak256("target"));
    }

    /// @dev A name that is free becomes somebody's.
    function _give(address who, string memory name) internal returns (bytes32 key) {
        key = _ask(who, name);
        uint40 now_ = uint40(block.timestamp);
        bytes memory sigs = _attest(key, who, domains.requestOf(key, who).nonce, now_, 5);
        domains.verify(key, who, TOKEN_METHOD, now_, sigs);
    }
}
