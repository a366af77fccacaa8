// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IImageMarketplace} from "../../src/interfaces/IImageMarketplace.sol";
import {Payees} from "../../src/libraries/Payees.sol";
import {ImageSuite} from "../utils/ImageSuite.sol";
import {Suite} from "../utils/Suite.sol";
import {GasBench} from "./GasBench.sol";

/// @title ImageMarketplaceGas
/// @notice The life of an image.
contract ImageMarketplaceGasTest is ImageSuite, GasBench {
    bytes32 internal constant JOB = keccak256("spec");

    function setUp() public override(ImageSuite, Suite) {
        ImageSuite.setUp();
    }

    function _code(string memory name) internal view override(Suite, GasBench) returns (bytes memory) {
        return GasBench._code(name);
    }

    function _bench() internal pure override returns (string memory) {
        return "images";
    }

    function _measure() internal override {
        _publish(_royalty(500));
        IImageMarketplace.Listing memory l = _royalty(500);
        _publish(l);
        _record("publish, to the publisher", 190_000);
        uint16[] memory bps = new uint16[](6);
        for (uint256 i; i < 6; ++i) {
            bps[i] = i == 0 ? 5_000 : 1_000;
        }
        l.splits = _split(bps);
        uint32 seq = _publish(l);
        _record("publish, 6 recipients", 190_000);
        vm.prank(publisher);
        images.newVersion(seq, keccak256("image 2"), keccak256("manifest 2"));
        _record("newVersion, 6 recipients", 0);
        _revenue(seq);
        _ratings(seq);
    }

    function _revenue(uint32 seq) private {
        vm.prank(address(jobs));
        payments.setFlow(payer, ALEPH, Payees.ofImage(seq), int256(1e12 * Q));
        skip(60);
        images.distribute(seq, ALEPH, _payers());
        skip(60);
        images.distribute(seq, ALEPH, _payers());
        _record("distribute, 6 recipients, one payer", 110_000);
        skip(60);
        payments.claim(Payees.ofImage(seq), ALEPH, _payers());
        images.distribute(seq, ALEPH, new address[](0));
        _record("distribute, 6 recipients, nothing to claim", 110_000);
    }

    /// @dev The jobs are real ones: what the JobManager takes to tell of them is in.
    function _ratings(uint32 seq) private {
        images.setUsdUnit(ALEPH, 1e15);
        address first = payer;
        _runWith(seq, JOB, uint128(1e12 * Q));
        (payer, payerKey) = makeAddrAndKey("other");
        _fund(payer, 1_000 ether);
        _runWith(seq, "other", uint128(1e12 * Q));
        skip(24 hours);
        payments.pull(first, ALEPH);
        payments.pull(payer, ALEPH);
        vm.prank(first);
        images.rate(seq, 5, JOB, "review");
        _record("rate, first of an image", 0);
        vm.prank(payer);
        images.rate(seq, 5, "other", "review");
        _record("rate", 80_000);
        vm.prank(payer);
        images.rate(seq, 4, "other", "review");
        _record("rate, again", 80_000);
        (payer, payerKey) = makeAddrAndKey("payer");
    }
}
