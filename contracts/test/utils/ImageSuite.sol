// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IImageMarketplace} from "../../src/interfaces/IImageMarketplace.sol";
import {IJobManager} from "../../src/interfaces/IJobManager.sol";
import {Payees} from "../../src/libraries/Payees.sol";
import {QuorumSuite} from "./QuorumSuite.sol";

/// @title ImageSuite
/// @notice How images are published, earn and are rated.
abstract contract ImageSuite is QuorumSuite {
    address internal publisher = makeAddr("publisher");

    function setUp() public virtual override {
        super.setUp();
        _bond(publisher, 100_000 ether);
    }

    /// @dev Gives somebody the money for bonds.
    function _bond(address who, uint256 amount) internal {
        gateway.mint(token, who, amount);
        vm.prank(who);
        token.approve(address(images), type(uint256).max);
    }

    function _free() internal pure returns (IImageMarketplace.Listing memory l) {
        (l.imageId, l.manifestHash) = (sha256("image"), sha256("manifest"));
    }

    function _royalty(uint16 bps) internal pure returns (IImageMarketplace.Listing memory l) {
        l = _free();
        (l.model, l.royaltyBps) = (IImageMarketplace.Model.Royalty, bps);
    }

    function _priced(IImageMarketplace.Model model, uint128 price)
        internal
        pure
        returns (IImageMarketplace.Listing memory l)
    {
        l = _free();
        (l.model, l.token, l.price) = (model, ALEPH, price);
    }

    /// @dev Between the accounts 1000, 1001, ...
    function _split(uint16[] memory bps) internal pure returns (IImageMarketplace.Split[] memory s) {
        s = new IImageMarketplace.Split[](bps.length);
        for (uint256 i; i < bps.length; ++i) {
            s[i] = IImageMarketplace.Split(_recipient(i), bps[i]);
        }
    }

    function _recipient(uint256 i) internal pure returns (address) {
        return address(uint160(1000 + i));
    }

    function _publish(IImageMarketplace.Listing memory l) internal returns (uint32) {
        vm.prank(publisher);
        return images.publish(l);
    }

    /// @dev An image earns `amount` at once.
    function _earn(uint32 seq, uint128 amount) internal {
        vm.prank(address(jobs));
        payments.chargeOnce(payer, ALEPH, Payees.ofImage(seq), amount, "earn");
    }

    function _distribute(uint32 seq) internal returns (uint256) {
        return images.distribute(seq, ALEPH, new address[](0));
    }

    /// @dev The JobManager says that this job is so.
    function _setJob(bytes32 spec, IJobManager.JobView memory j) internal {
        vm.mockCall(address(jobs), abi.encodeCall(IJobManager.job, (spec)), abi.encode(j));
    }

    /// @dev A job of the payer with an image, which has run for `ran` seconds at a USD an hour.
    function _ranJob(uint32 seq, uint40 ran) internal view returns (IJobManager.JobView memory j) {
        (j.payer, j.imageSeq, j.nodeId, j.token) = (payer, seq, workers[0].id, ALEPH);
        (j.status, j.startedAt) = (IJobManager.Status.Stopped, uint40(block.timestamp) - ran);
        (j.changedAt, j.rateQ32) = (uint40(block.timestamp), uint128(uint256(10 ether << 32) / 1 hours) + 1);
    }

    /// @dev A job of the payer that uses an image, from now on.
    function _runWith(uint32 seq, bytes32 spec, uint128 rateQ32) internal {
        Opening memory o = _opening(spec, rateQ32, workers[0]);
        (o.offer.imageSeq, o.offer.maxRateQ32) = (seq, 2 * rateQ32);
        _signOpening(o, payerKey, workers[0], 3);
        _send(o);
        assertEq(_confirm(spec, workers[0]), 1);
    }
}
