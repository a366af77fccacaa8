// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDomainRegistry} from "../../../src/interfaces/IDomainRegistry.sol";
import {ScaleWorld} from "./ScaleWorld.sol";

/// @title ScaleDomains
/// @notice The DomainRegistry, by the account that has asked for all names.
abstract contract ScaleDomains is ScaleWorld {
    function test_scale_domains() public {
        _scale("DomainRegistry", address(domains), _domains);
    }

    function _domains() private {
        nodes.snapshotCoordinators();
        bytes32 key = _having();
        _certs(key);
        _disputes(key);
        _domainEnds(key);
        _upkeep("DomainRegistry", address(domains));
    }

    function _having() private returns (bytes32 key) {
        address at = address(domains);
        IDomainRegistry.TargetType site = IDomainRegistry.TargetType.Site;
        bytes memory data = abi.encodeCall(IDomainRegistry.request, ("www.example.com", site, "target"));
        (key,) = abi.decode(_call("request", landlord, at, data), (bytes32, bytes32));
        uint40 seen = uint40(block.timestamp);
        bytes memory sigs = _attest(key, landlord, 0, seen, 5);
        data = abi.encodeCall(IDomainRegistry.verify, (key, landlord, TOKEN_METHOD, seen, sigs));
        _call("verify", address(this), at, data);
        _call("setTarget", landlord, at, abi.encodeCall(IDomainRegistry.setTarget, (key, site, "other")));
        _call("setCaa", landlord, at, abi.encodeCall(IDomainRegistry.setCaa, (key, "caa")));
    }

    function _certs(bytes32 key) private {
        address at = address(domains);
        uint40 end = uint40(block.timestamp) + 90 days;
        _call("setCert", landlord, at, abi.encodeCall(IDomainRegistry.setCert, (key, "spki", end)));
        bytes memory data = abi.encodeCall(IDomainRegistry.rotateCert, (key, "spki 2", end, end - 80 days));
        _call("rotateCert", landlord, at, data);
        _call("revokeCert", landlord, at, abi.encodeCall(IDomainRegistry.revokeCert, (key, "spki")));
        bytes memory sigs = _sigs(domains.revocationDigest(key, 0, "spki 2", "evidence"), hex"0001020304");
        data = abi.encodeCall(IDomainRegistry.revoke, (key, "spki 2", "evidence", sigs));
        _call("revoke, a key", address(this), at, data);
    }

    function _disputes(bytes32 key) private {
        address at = address(domains);
        _ask(watcher, "www.example.com");
        skip(1);
        uint40 seen = uint40(block.timestamp);
        bytes memory sigs = _attest(key, watcher, 1, seen, 5);
        bytes memory data = abi.encodeCall(IDomainRegistry.dispute, (key, watcher, TOKEN_METHOD, seen, sigs));
        _call("dispute", address(this), at, data);
        skip(72 hours);
        _call("settleDispute", address(this), at, abi.encodeCall(IDomainRegistry.settleDispute, (key)));
        _call("transfer", watcher, at, abi.encodeCall(IDomainRegistry.transfer, (key, landlord)));
        _call("accept", landlord, at, abi.encodeCall(IDomainRegistry.accept, (key)));
    }

    function _domainEnds(bytes32 key) private {
        address at = address(domains);
        _call("release", landlord, at, abi.encodeCall(IDomainRegistry.release, (key)));
        nodes.snapshotCoordinators();
        key = _give(landlord, "two.example.com");
        bytes memory sigs = _sigs(domains.revocationDigest(key, 0, 0, "evidence"), hex"0001020304");
        bytes memory data = abi.encodeCall(IDomainRegistry.revoke, (key, 0, "evidence", sigs));
        _call("revoke, a name", address(this), at, data);
        // The first of the names that the network was made with.
        skip(105 days);
        key = domains.keyOf("n0.example.com");
        _call("lapse", address(this), at, abi.encodeCall(IDomainRegistry.lapse, (key)));
    }
}
