// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IImageMarketplace} from "../../../src/interfaces/IImageMarketplace.sol";
import {ScaleWorld} from "./ScaleWorld.sol";

/// @title ScaleImages
/// @notice The ImageMarketplace, with the image that every other job uses.
abstract contract ScaleImages is ScaleWorld {
    function test_scale_images() public {
        _scale("ImageMarketplace", address(images), _images);
    }

    function _images() private {
        nodes.snapshotCoordinators();
        _imageLife();
        _moderation();
        _earning();
        address at = address(images);
        _call("setUsdUnit", address(timelock), at, abi.encodeCall(IImageMarketplace.setUsdUnit, (ALEPH, 2e9)));
        _call("setBond", address(timelock), at, abi.encodeCall(IImageMarketplace.setBond, (60)));
        _upkeep("ImageMarketplace", at);
    }

    function _imageLife() private {
        address at = address(images);
        IImageMarketplace.Listing memory l = _royalty(500);
        uint16[] memory bps = new uint16[](6);
        for (uint256 i; i < 6; ++i) {
            bps[i] = i == 0 ? 5_000 : 1_000;
        }
        (l.splits, l.parent, l.parentBps) = (_split(bps), busyImage, 1_000);
        bytes memory data = abi.encodeCall(IImageMarketplace.publish, (l));
        uint32 seq = abi.decode(_call("publish, 6 recipients and a parent", publisher, at, data), (uint32));
        data = abi.encodeCall(IImageMarketplace.newVersion, (seq, "image 2", "manifest 2"));
        _call("newVersion", publisher, at, data);
        data = abi.encodeCall(IImageMarketplace.setStatus, (seq, IImageMarketplace.Status.Deprecated));
        _call("setStatus", publisher, at, data);
        _call("unpublish", publisher, at, abi.encodeCall(IImageMarketplace.unpublish, (seq)));
        uint256 now_ = block.timestamp;
        skip(30 days);
        _call("returnBond", address(this), at, abi.encodeCall(IImageMarketplace.returnBond, (seq)));
        vm.warp(now_);
    }

    function _moderation() private {
        address at = address(images);
        uint32 seq = busyImage + 1;
        _call("takedown", address(timelock), at, abi.encodeCall(IImageMarketplace.takedown, (seq, "reason")));
        _call("restore", address(timelock), at, abi.encodeCall(IImageMarketplace.restore, (seq)));
        vm.prank(address(timelock));
        images.takedown(seq, "reason");
        bytes memory sigs = _sigs(images.verdictDigest(seq, "reason"), hex"0001020304");
        _call("forfeit", address(this), at, abi.encodeCall(IImageMarketplace.forfeit, (seq, "reason", sigs)));
    }

    function _earning() private {
        address at = address(images);
        skip(24 hours);
        address[] memory payers = new address[](FEW / 2);
        for (uint256 i; i < payers.length; ++i) {
            payers[i] = vm.addr(_payerKey(2 * i + 1));
        }
        payments.pullMany(payers, ALEPH);
        images.distribute(busyImage, ALEPH, payers);
        skip(1 hours);
        payments.pullMany(payers, ALEPH);
        bytes memory data = abi.encodeCall(IImageMarketplace.distribute, (busyImage, ALEPH, payers));
        _call("distribute, 16 payers", address(this), at, data);
        vm.prank(payers[1]);
        images.rate(busyImage, 4, _jobOf(3), "review");
        data = abi.encodeCall(IImageMarketplace.rate, (busyImage, 5, _jobOf(1), "review"));
        _call("rate", payers[0], at, data);
    }
}
